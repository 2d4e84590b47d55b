"""How alike two sets of events are: counts, charges, occupancies and track lengths, as plain arrays."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import CLASS_NAMES, NEUTRINO, Event, EventReader
from cosmictagger.data.layout import Records

FACTOR = 1.5  # medians agree when they differ by at most this factor
N_CLASSES = len(CLASS_NAMES)
CHARGE_EDGES = np.geomspace(1, 3000, 61)
SAMPLES = 2000  # random samples from which the spread of a small sample's median is taken
SHORTEST_TRACK = 10  # pixels that a track must have at least to be measured
CHARGED_CURRENT = 0
Floats = npt.NDArray[np.float64]
Progress = Callable[[int], None]


@dataclasses.dataclass(frozen=True)
class Summary:
    """What a set of events looks like.

    `pixels` [events, planes, classes] counts pixels; `charge` [events, planes, classes] is their median charge
    (NaN where there are none); `halves` [events, planes, 2] counts pixels in the lower and the upper half of the
    ticks; `charges` [planes, classes, bins] is the histogram of charges over `CHARGE_EDGES`; `tracks` holds for
    each plane the lengths (in pixels, corner to corner) of connected groups of cosmic pixels; `comparable`
    [events] is true for charged-current events in the energies asked for.
    """

    pixels: Floats
    charge: Floats
    halves: Floats
    charges: Floats
    tracks: tuple[Floats, ...]
    comparable: npt.NDArray[np.bool_]


class Row(NamedTuple):
    """One line of the agreement table: medians over events.

    `spread` is where the median of as few simulated events as the reference has falls in two cases of three.
    """

    quantity: str
    plane: int
    label: str
    simulated: float
    reference: float
    spread: tuple[float, float] = (float("nan"), float("nan"))

    @property
    def ratio(self) -> float:
        """Simulated over reference; NaN where either has none."""
        return self.simulated / self.reference if self.reference else float("nan")

    @property
    def agrees(self) -> bool:
        """Whether the ratio lies within a factor `FACTOR` of 1."""
        return 1 / FACTOR <= self.ratio <= FACTOR


def summarize(
    reader: EventReader,
    entries: Sequence[int] | None = None,
    energy: tuple[float, float] = (0.0, np.inf),
    progress: Progress | None = None,
) -> Summary:
    """Look at the events of a reader (all by default); `energy` in GeV bounds the comparable neutrino events."""
    chosen = range(len(reader)) if entries is None else entries
    parts = []
    for done, entry in enumerate(chosen, 1):
        parts.append(_look(reader.read(entry), reader.particles(entry), energy))
        if progress is not None:
            progress(done)
    pixels, charge, halves, charges, tracks, comparable = zip(*parts, strict=True)
    return Summary(
        np.stack(pixels),
        np.stack(charge),
        np.stack(halves),
        np.sum(charges, axis=0),
        tuple(np.concatenate(lengths) for lengths in zip(*tracks, strict=True)),
        np.array(comparable),
    )


def agreement(simulated: Summary, reference: Summary) -> list[Row]:
    """Compare medians over events of the pixel counts and the charges, by plane and class.

    For neutrino pixels only the comparable events count, on both sides.
    """
    rows = []
    for quantity in ("pixels", "charge"):
        for label, name in enumerate(CLASS_NAMES):
            for plane in range(simulated.pixels.shape[1]):
                mine, theirs = (_values(summary, quantity, plane, label) for summary in (simulated, reference))
                rows.append(Row(quantity, plane, name, _median(mine), _median(theirs), _spread(mine, len(theirs))))
    return rows


def charged_current(particles: Records, energy: tuple[float, float]) -> bool:
    """Say whether the first true particle is a neutrino of `energy` in GeV that interacted by charged current."""
    if not len(particles):
        return False
    first = particles[0]
    return bool(first["current_type"] == CHARGED_CURRENT and energy[0] <= first["energy_init"] <= energy[1])


def connected(index: npt.NDArray[np.int32], width: int) -> npt.NDArray[np.int64]:
    """Number the connected groups (8 neighbours) of pixels; `index` (tick * width + wire) ascending."""
    group = np.arange(len(index))
    pairs = [_neighbours(index, width, shift) for shift in ((0, 1), (1, -1), (1, 0), (1, 1))]
    first, second = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    while len(first):
        smaller = np.minimum(group[first], group[second])
        order = np.argsort(-smaller, kind="stable")  # of several writes to one place, the smallest comes last
        before = group.copy()
        for side in (first, second):
            group[group[side[order]]] = np.minimum(group[group[side[order]]], smaller[order])
            group[side[order]] = np.minimum(group[side[order]], smaller[order])
        group = group[group]
        if np.array_equal(before, group):
            break
    return np.unique(group, return_inverse=True)[1]


def track_lengths(event: Event, plane: int, label: int) -> Floats:
    """Measure connected groups of pixels of one class, each from corner to corner, in pixels."""
    pixels = event.planes[plane]
    width = event.shape[1]
    assert pixels.label is not None
    index = pixels.index[pixels.label == label]
    group = connected(index, width)
    counts = np.bincount(group) if len(group) else np.zeros(0, np.int64)
    extents = []
    for place in np.divmod(index, width):
        low, high = np.full(len(counts), 1 << 30), np.zeros(len(counts), np.int64)
        np.minimum.at(low, group, place)
        np.maximum.at(high, group, place)
        extents.append(high - low + 1)
    return np.hypot(*extents)[counts >= SHORTEST_TRACK] if len(counts) else np.zeros(0)


def _look(event: Event, particles: Records, energy: tuple[float, float]) -> tuple[object, ...]:
    planes = len(event.planes)
    pixels, charge = np.zeros((planes, N_CLASSES)), np.full((planes, N_CLASSES), np.nan)
    halves, charges = np.zeros((planes, 2)), np.zeros((planes, N_CLASSES, len(CHARGE_EDGES) - 1))
    middle = event.shape[0] // 2 * event.shape[1]
    for number, plane in enumerate(event.planes):
        assert plane.label is not None
        lower = int(np.searchsorted(plane.index, middle))
        halves[number] = lower, len(plane.index) - lower
        for label in range(N_CLASSES):
            values = plane.value[plane.label == label]
            pixels[number, label] = len(values)
            charge[number, label] = np.median(values) if len(values) else np.nan
            charges[number, label] = np.histogram(values, CHARGE_EDGES)[0]
    tracks = tuple(track_lengths(event, plane, 1) for plane in range(planes))
    return pixels, charge, halves, charges, tracks, charged_current(particles, energy)


def _neighbours(
    index: npt.NDArray[np.int32], width: int, shift: tuple[int, int]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Places of pixels and of their neighbours at `shift` (ticks, wires), where both are there."""
    wire = index % width + shift[1]
    wanted = index + shift[0] * width + shift[1]
    place = np.minimum(np.searchsorted(index, wanted), len(index) - 1)
    there = (index[place] == wanted) & (wire >= 0) & (wire < width) if len(index) else np.zeros(0, bool)
    return np.flatnonzero(there), place[there]


def _values(summary: Summary, quantity: str, plane: int, label: int) -> Floats:
    values: Floats = getattr(summary, quantity)[:, plane, label]
    if label == NEUTRINO:
        values = values[summary.comparable]
    return values[np.isfinite(values)]


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _spread(values: Floats, size: int) -> tuple[float, float]:
    if not len(values) or not size:
        return float("nan"), float("nan")
    samples = np.random.default_rng(0).choice(values, (SAMPLES, size))
    low, high = np.quantile(np.median(samples, axis=1), (1 / 6, 5 / 6))
    return float(low), float(high)
