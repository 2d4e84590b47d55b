"""Particles by hand, for tests that know what should come out."""

import numpy as np

from cosmictagger.data.events import COSMIC
from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import Quanta
from cosmictagger.simulate.deposits import Deposits, Origin, make
from cosmictagger.simulate.tracks import Tracks


def origin(count: int, time: float = 0.0, label: int = COSMIC) -> Origin:
    return Origin(np.full(count, time), np.full(count, label, np.uint8), np.arange(count, dtype=np.int32))


def tracks(
    energy: float,
    direction: tuple[float, float, float],
    *,
    count: int = 1,
    position: tuple[float, float, float] = (50.0, 0.0, 100.0),
    path: float = np.inf,
    species: int = medium.MUON,
    decays: bool = False,
) -> Tracks:
    unit = np.array(direction) / np.linalg.norm(direction)
    return Tracks(
        species=np.full(count, species),
        energy=np.full(count, energy),
        position=np.tile(np.array(position, float), (count, 1)),
        direction=np.tile(unit, (count, 1)),
        path=np.full(count, float(path)),
        decays=np.full(count, decays),
        negative=np.zeros(count, bool),
        origin=origin(count),
    )


def quanta(kind: int, energy: float, count: int, position: tuple[float, float, float] = (100.0, 0.0, 150.0)) -> Quanta:
    return Quanta(
        kind=np.full(count, kind),
        energy=np.full(count, energy),
        position=np.tile(np.array(position, float), (count, 1)),
        direction=np.tile([0.0, 0.0, 1.0], (count, 1)),
        origin=origin(count),
    )


def line(
    start: tuple[float, float, float],
    stop: tuple[float, float, float],
    *,
    step: float = 0.2,
    time: float = 0.0,
    label: int = COSMIC,
) -> Deposits:
    """A straight track that loses 2.1 MeV/cm without fluctuations."""
    first, last = np.array(start), np.array(stop)
    count = int(np.linalg.norm(last - first) / step)
    steps = np.tile((last - first) / count, (count, 1))
    place = first + (np.arange(count)[:, None] + 0.5) * steps[:1]
    energy = np.full(count, medium.MIP_LOSS) * np.linalg.norm(steps, axis=1)
    mine = origin(count, time, label)
    return make(place, steps, energy, energy, Origin(mine.time, mine.label, np.zeros(count, np.int32)))
