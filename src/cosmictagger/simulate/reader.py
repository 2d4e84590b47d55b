"""Simulated events behind the interface of a file reader: a workload without a file."""

import threading
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cosmictagger.data.downsample import downsampled_shape, group
from cosmictagger.data.events import Event, PlanePixels, Product
from cosmictagger.data.layout import Records
from cosmictagger.errors import UserError
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import simulate_event
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.products import PRODUCTS, event_id, particle_records
from cosmictagger.simulate.response import Canvas


class _Entry(NamedTuple):
    event: Event
    particles: Records


class SimulatedReader:
    """Reads events that are simulated when asked for; an `EventReader`.

    Entry i is event `first_event` + i of the data set of `seed`: the same event that a file of that seed holds.
    With `cache`, an event is kept in memory once it was read, so that later reads cost nothing. Safe from
    several threads at once. Raises UserError where the images cannot be halved `downsample` times.
    """

    def __init__(
        self,
        events: int,
        seed: int = 0,
        *,
        downsample: int = 0,
        detector: Detector | None = None,
        mix: Mix | None = None,
        cache: bool = True,
        first_event: int = 0,
    ) -> None:
        if events < 1:
            raise UserError(f"simulated events: {events} is no data set; ask for at least 1.")
        self._detector, self._mix = detector or Detector(), mix or Mix()
        self._events, self._seed, self._first = events, seed, first_event
        self._downsample = downsample
        self._shape = downsampled_shape(self._detector.shape, downsample)
        self._cache: dict[int, _Entry] | None = {} if cache else None
        self._local = threading.local()

    @property
    def shape(self) -> tuple[int, int]:
        """(ticks, wires) of the images that `read` returns, downsampling included."""
        return self._shape

    @property
    def bytes_read(self) -> int:
        """Nothing comes from a file."""
        return 0

    @property
    def unmatched_labels(self) -> int:
        """Simulated labels always belong to a pixel."""
        return 0

    def __len__(self) -> int:
        return self._events

    def products(self) -> tuple[Product, ...]:
        """List what the events hold."""
        return PRODUCTS

    def sizes(self) -> npt.NDArray[np.int64]:
        """Count the pixels of each event, all planes together, as `read` gives them; those not read yet are simulated."""
        return np.array([sum(len(plane.index) for plane in self.read(entry).planes) for entry in range(len(self))])

    def read(self, entry: int) -> Event:
        """Simulate one event, or take it from the cache."""
        return self._entry(entry).event

    def particles(self, entry: int) -> Records:
        """Give each neutrino and its daughters; none in cosmic-only events."""
        return self._entry(entry).particles

    def describe(self, entry: int) -> str:
        """Name an entry in a message."""
        return f"simulated event {self._first + entry} of seed {self._seed}"

    def close(self) -> None:
        """Forget the events kept in memory."""
        if self._cache is not None:
            self._cache.clear()

    def _entry(self, entry: int) -> _Entry:
        if not 0 <= entry < self._events:
            raise IndexError(f"entry {entry} of {self._events}")
        if self._cache is None:
            return self._make(entry)
        kept = self._cache.get(entry)
        if kept is None:
            kept = self._cache[entry] = self._make(entry)
        return kept

    def _make(self, entry: int) -> _Entry:
        if not hasattr(self._local, "canvas"):
            self._local.canvas = Canvas(self._detector.shape)
        number = self._first + entry
        simulated = simulate_event(self._detector, self._mix, self._seed, number, self._local.canvas)
        planes = tuple(_downsample(plane, self._detector.shape, self._downsample) for plane in simulated.planes)
        event = Event(entry, event_id(number), self._shape, planes)
        return _Entry(event, particle_records(simulated.particles, simulated.deposits))


def _downsample(plane: PlanePixels, shape: tuple[int, int], halvings: int) -> PlanePixels:
    """Pool a plane as reading it from a file would, to the last bit: wire by wire, as files are ordered."""
    if not halvings:
        return plane
    ticks, wires = shape
    tick, wire = np.divmod(plane.index, wires)
    position = wire * ticks + tick
    order = np.argsort(position)
    blocks = group(position[order].astype(np.int32), (wires, ticks), halvings)
    assert plane.label is not None
    return PlanePixels(blocks.index, blocks.average(plane.value[order]), blocks.maximum(plane.label[order]))
