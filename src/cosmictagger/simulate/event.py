"""One simulated event, from the dice to the pixels: a pure function of detector, mix, seed and event number."""

import dataclasses

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import BACKGROUND, COSMIC, NEUTRINO, PlanePixels
from cosmictagger.simulate.cascade import Quanta, follow_quanta, no_quanta
from cosmictagger.simulate.cosmic import cosmic_particles, radiological_deposits
from cosmictagger.simulate.deposits import Deposits, join
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.neutrino import INTERACTIONS, Mix, Particle, interact, secondaries, to_follow
from cosmictagger.simulate.noise import noise_pixels, noise_sigma
from cosmictagger.simulate.response import Canvas, PlaneCharge, drift, plane_charge
from cosmictagger.simulate.streams import stream
from cosmictagger.simulate.tracks import Tracks, follow_tracks, join_tracks

N_PLANES = 3
FIRST_COSMIC = 1000  # instance of the first cosmic particle; those of the neutrino are its places in the list


@dataclasses.dataclass(frozen=True)
class SimulatedEvent:
    """Pixels and truth of one event.

    `kind` is one of `neutrino.KINDS`, that of the first interaction; `particles` holds each neutrino and its
    daughters (empty for cosmic-only events); `instances` the number of the particle that left most charge in each
    pixel of each plane (int32, -1: noise and electronics alone); `deposits` the true energy in the active volume.
    """

    number: int
    kind: str
    shape: tuple[int, int]
    planes: tuple[PlanePixels, ...]
    instances: tuple[npt.NDArray[np.int32], ...]
    particles: tuple[Particle, ...]
    deposits: Deposits


def simulate_event(
    detector: Detector, mix: Mix, seed: int, number: int, canvas: Canvas | None = None
) -> SimulatedEvent:
    """Simulate event `number` of the data set that `seed` names; a `canvas` kept from call to call saves time."""
    dice = stream(seed, number, "neutrino")
    kind = mix.draw(dice)
    tracks, quanta = cosmic_particles(detector, stream(seed, number, "cosmic"), FIRST_COSMIC)
    particles: list[Particle] = []
    for place in range(0 if kind == "cosmic" else mix.neutrinos):
        if place > 0:  # with dice of its own: the first one does not depend on how many follow
            dice = stream(seed, number, f"neutrino {place}")
        interaction = interact(detector, mix.draw(dice, INTERACTIONS) if place > 0 else kind, dice)
        more_tracks, more_quanta = to_follow(interaction, dice, len(particles))
        tracks, quanta = join_tracks([more_tracks, tracks]), more_quanta.joined(quanta)
        particles += [particle.after(len(particles)) for particle in interaction]
    parts = [_follow(detector, tracks, quanta, stream(seed, number, "transport"))]
    parts.append(radiological_deposits(detector, stream(seed, number, "radiological")))
    deposits = join(parts).within(detector)
    planes, instances = image(detector, deposits, seed, number, canvas or Canvas(detector.shape))
    return SimulatedEvent(number, kind, detector.shape, planes, instances, tuple(particles), deposits)


def image(
    detector: Detector, deposits: Deposits, seed: int, number: int, canvas: Canvas
) -> tuple[tuple[PlanePixels, ...], tuple[npt.NDArray[np.int32], ...]]:
    """Turn deposits into the pixels of all planes, with their instances."""
    drifted = drift(detector, deposits)
    pairs = [
        _digitize(
            detector, plane, plane_charge(detector, drifted, plane, canvas), stream(seed, number, f"noise {plane}")
        )
        for plane in range(N_PLANES)
    ]
    return tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)


def _follow(detector: Detector, tracks: Tracks, quanta: Quanta, rng: np.random.Generator) -> Deposits:
    """Follow particles and all that they make."""
    parts = []
    made = quanta
    while len(tracks):
        deposits, electrons, ends = follow_tracks(detector, tracks, rng)
        parts.append(deposits)
        made = made.joined(electrons)
        tracks = secondaries(tracks, ends.energy, ends.position, ends.direction, rng)
    parts.append(follow_quanta(detector, made if len(made) else no_quanta(), rng))
    return join(parts)


def _digitize(
    detector: Detector, plane: int, charge: PlaneCharge, rng: np.random.Generator
) -> tuple[PlanePixels, npt.NDArray[np.int32]]:
    """Add noise, suppress what lies below the threshold, and label what is left."""
    upper = charge.pixel // detector.n_wires >= detector.n_ticks // 2
    sigma = np.where(upper, noise_sigma(detector, plane, True), noise_sigma(detector, plane, False)).astype(np.float32)
    value = charge.total + rng.standard_normal(len(upper), dtype=np.float32) * sigma
    label = label_pixels(detector, charge.total, charge.neutrino, charge.cosmic_truth)
    kept = np.flatnonzero(value >= detector.threshold)
    noise, noise_value = noise_pixels(detector, plane, rng)
    index = np.concatenate([charge.pixel[kept], noise])
    order = _first_of_equals(index)
    pixels = PlanePixels(
        index[order],
        np.concatenate([value[kept], noise_value])[order],
        np.concatenate([label[kept], np.full(len(noise), BACKGROUND, np.uint8)])[order],
    )
    return pixels, np.concatenate([charge.instance[kept], np.full(len(noise), -1, np.int32)])[order]


def _first_of_equals(index: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """Order that sorts `index` and keeps, of equal elements, the first."""
    # Sorting numbers that carry their place is several times faster than argsort.
    carried = np.sort(index.astype(np.int64) << 32 | np.arange(len(index)))
    sorted_index = carried >> 32
    fresh = np.ones(len(index), bool)
    fresh[1:] = sorted_index[1:] != sorted_index[:-1]
    return carried[fresh] & 0xFFFFFFFF


def label_pixels(
    detector: Detector,
    total: npt.NDArray[np.float32],
    neutrino: npt.NDArray[np.float32],
    cosmic_truth: npt.NDArray[np.float32],
) -> npt.NDArray[np.uint8]:
    """Label pixels by what left most charge: neutrino where it ties or wins, cosmic where cosmic charge drifted to.

    As in the files that the field uses, a cosmic pixel is one that true charge reached; the edges that the
    electronics alone smear over stay background. Neutrino pixels include these edges.
    """
    is_neutrino = (neutrino >= detector.neutrino_label_charge) & (neutrino >= total - neutrino)
    is_cosmic = cosmic_truth >= detector.cosmic_label_charge
    label = np.where(is_cosmic, COSMIC, BACKGROUND)
    return np.where(is_neutrino, NEUTRINO, label).astype(np.uint8)
