"""Electrons and photons, followed generation by generation: delta rays, Michel electrons, showers, blips.

Electrons lose energy by ionization and radiate photons; photons travel, scatter or make pairs; every particle
of a generation is followed at once. The longitudinal and lateral shapes of showers come out of this, they are
not put in.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from cosmictagger.simulate import medium
from cosmictagger.simulate.deposits import Deposits, Origin, join, make
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.fluctuate import moyal, scatter
from cosmictagger.simulate.ragged import Floats, Ragged, layout, running_sum, turn

ELECTRON, PHOTON = 0, 1
MARGIN = 20.0  # cm around the active volume in which photons are still followed
MAX_GENERATIONS = 40
TRIES = 4  # draws of a scattered photon's energy, of which the first good one counts
POINT_STEP = 0.02  # cm of the tracks that absorbed photons leave


@dataclasses.dataclass(frozen=True)
class Quanta:
    """Electrons (or positrons) and photons: `kind`, kinetic `energy` in MeV, `position` and `direction` [n, 3]."""

    kind: npt.NDArray[np.int64]
    energy: Floats
    position: Floats
    direction: Floats
    origin: Origin

    def __len__(self) -> int:
        return len(self.energy)

    def take(self, index: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Quanta":
        """Pick particles by number or by mask."""
        return Quanta(
            self.kind[index], self.energy[index], self.position[index], self.direction[index], self.origin.take(index)
        )

    def joined(self, *others: "Quanta") -> "Quanta":
        """Append other lists to this one."""
        parts = (self, *others)
        origin = Origin(
            *(np.concatenate([getattr(p.origin, f.name) for p in parts]) for f in dataclasses.fields(Origin))
        )
        return Quanta(
            np.concatenate([p.kind for p in parts]),
            np.concatenate([p.energy for p in parts]),
            np.concatenate([p.position for p in parts]),
            np.concatenate([p.direction for p in parts]),
            origin,
        )


def no_quanta() -> Quanta:
    """Make an empty list."""
    origin = Origin(np.zeros(0), np.zeros(0, np.uint8), np.zeros(0, np.int32))
    return Quanta(np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 3)), np.zeros((0, 3)), origin)


def follow_quanta(detector: Detector, quanta: Quanta, rng: np.random.Generator) -> Deposits:
    """Follow electrons and photons, and all that they make, until everything is deposited or has left."""
    parts = []
    electrons, photons = quanta.take(quanta.kind == ELECTRON), quanta.take(quanta.kind == PHOTON)
    for _ in range(MAX_GENERATIONS):
        if not len(electrons) and not len(photons):
            break
        absorbed, made, scattered = _photons(detector, photons.take(_near(detector, photons.position)), rng)
        electrons = electrons.joined(made)
        deposits, radiated = _electrons(detector, electrons.take(_near(detector, electrons.position)), rng)
        parts += [deposits, absorbed]
        electrons, photons = no_quanta(), scattered.joined(radiated)
    return join(parts) if parts else _points(no_quanta())


def _near(detector: Detector, position: Floats) -> npt.NDArray[np.bool_]:
    x, y, z = position.T
    across = (np.abs(x) < detector.half_width + MARGIN) & (np.abs(y) < detector.half_height + MARGIN)
    result: npt.NDArray[np.bool_] = across & (z > -MARGIN) & (z < detector.length + MARGIN)
    return result


def _photons(detector: Detector, photons: Quanta, rng: np.random.Generator) -> tuple[Deposits, Quanta, Quanta]:
    """Let photons travel and interact: give deposits of the softest, the electrons made, the photons scattered."""
    soft = photons.energy < detector.photon_min
    absorbed = _points(photons.take(soft))
    photons = photons.take(~soft)
    count = len(photons)
    if not count:
        return absorbed, no_quanta(), no_quanta()
    way = rng.exponential(1.0, count) * medium.photon_length(photons.energy)
    moved = dataclasses.replace(photons, position=photons.position + photons.direction * way[:, None])
    scatters = rng.random(count) < medium.compton_share(photons.energy)
    knocked, scattered = _compton(moved.take(scatters), rng)
    return absorbed, _pairs(moved.take(~scatters), rng).joined(knocked), scattered


def _compton(photons: Quanta, rng: np.random.Generator) -> tuple[Quanta, Quanta]:
    """Share energy between electron and photon by the Klein-Nishina formula."""
    energy = photons.energy
    left = energy * _klein_nishina(energy, rng)
    kinetic = energy - left
    photon_angle = np.arccos(np.clip(1 - medium.ELECTRON_MASS * (1 / left - 1 / energy), -1, 1))
    momentum = np.sqrt(kinetic * (kinetic + 2 * medium.ELECTRON_MASS)) + 1e-9
    electron_angle = np.arcsin(np.clip(left * np.sin(photon_angle) / momentum, -1, 1))
    azimuth = rng.uniform(0, 2 * np.pi, len(energy))
    knocked = dataclasses.replace(
        photons,
        kind=np.full(len(energy), ELECTRON),
        energy=kinetic,
        direction=turn(photons.direction, electron_angle, azimuth + np.pi),
    )
    scattered = dataclasses.replace(photons, energy=left, direction=turn(photons.direction, photon_angle, azimuth))
    return knocked, scattered


def _klein_nishina(energy: Floats, rng: np.random.Generator) -> Floats:
    """Share of its energy that a scattered photon keeps: from 1/e + e, each draw kept by the angular weight."""
    lowest = 1 / (1 + 2 * energy / medium.ELECTRON_MASS)
    logarithm, square = -np.log(lowest), (1 - lowest**2) / 2
    choose, place, keep = rng.random((3, TRIES, len(energy)))
    share = np.where(
        choose * (logarithm + square) < logarithm, lowest**place, np.sqrt(lowest**2 + (1 - lowest**2) * place)
    )
    away = medium.ELECTRON_MASS / energy * (1 / share - 1)  # 1 - cosine
    good = keep < 1 - share * away * (2 - away) / (1 + share**2)
    chosen: Floats = share[good.argmax(axis=0), np.arange(len(energy))]
    return chosen


def _pairs(photons: Quanta, rng: np.random.Generator) -> Quanta:
    """Turn photons into electron and positron with a flat share of the energy; their masses are given away."""
    kinetic = np.maximum(photons.energy - 2 * medium.ELECTRON_MASS, 0.05)
    share = rng.uniform(0.02, 0.98, len(kinetic))
    angle = medium.ELECTRON_MASS / photons.energy
    azimuth = rng.uniform(0, 2 * np.pi, len(kinetic))
    kind = np.full(len(kinetic), ELECTRON)
    twice = photons.joined(photons)
    azimuth = np.concatenate([azimuth, azimuth + np.pi])
    return dataclasses.replace(
        twice,
        kind=np.concatenate([kind, kind]),
        energy=np.concatenate([kinetic * share, kinetic * (1 - share)]),
        direction=turn(twice.direction, np.concatenate([angle, angle]), azimuth),
    )


def _electrons(detector: Detector, electrons: Quanta, rng: np.random.Generator) -> tuple[Deposits, Quanta]:
    """Follow electrons until they stop; give their deposits and the photons that they radiate."""
    if not len(electrons):
        return _points(electrons), no_quanta()
    step = detector.electron_step
    rows = layout(np.ceil(electrons.energy / (medium.ELECTRON_LOSS * step)).astype(np.int64))
    energy, shares = _energy_along(detector, electrons.energy, rows, rng)
    alive = energy > 0
    rows = layout(np.add.reduceat(alive, rows.starts))
    energy, shares = energy[alive], shares[alive]
    ionized = np.minimum(energy, medium.ELECTRON_LOSS * step)
    length = ionized / medium.ELECTRON_LOSS
    momentum_beta = energy * (energy + 2 * medium.ELECTRON_MASS) / (energy + medium.ELECTRON_MASS)
    directions = scatter(electrons.direction, medium.scattering_angle(momentum_beta, length), rows, rng)
    steps = directions * length[:, None]
    positions = electrons.position[rows.row] + running_sum(steps, rows) - steps / 2
    origin = electrons.origin.take(rows.row)
    width = np.minimum(medium.LANDAU_WIDTH * length, ionized / 4)
    lost = np.maximum(ionized + width * moyal(rng, len(energy)), 0.2 * ionized)
    emits = np.flatnonzero((shares > 0) & (energy > ionized))
    photons = Quanta(
        np.full(len(emits), PHOTON),
        shares[emits] * (energy - ionized)[emits],
        positions[emits],
        directions[emits],
        origin.take(emits),
    )
    return make(positions, steps, lost, lost, origin), photons


def _energy_along(detector: Detector, start: Floats, rows: Ragged, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Kinetic energy before each step, negative where the electron has stopped, and the share radiated after it.

    The losses of a step, a constant by ionization and a share y by radiation, E' = (E - a) (1 - y), are summed
    in closed form for all steps at once: E_i = P_i (E_0 - a sum_j<i 1 / P_j), P the product of 1 - y so far.
    """
    lowest = np.minimum(detector.photon_min / np.maximum(start, 1e-3), 0.99)[rows.row]
    logarithm = -np.log(lowest)
    chance = detector.electron_step / medium.RADIATION_LENGTH * 4 / 3 * logarithm
    share = np.minimum(np.exp(-logarithm * rng.random(len(lowest))), 0.98)
    emits = rng.random(len(lowest)) < chance * (1 - share + 0.75 * share**2)
    share = np.where(emits, share, 0.0)
    total = running_sum(np.log1p(-share), rows)
    product_before = np.exp(total - np.log1p(-share))
    ionization = medium.ELECTRON_LOSS * detector.electron_step
    # A term beyond E_0 / a stops the electron whatever its size; larger ones would cost the sums their precision.
    term = 1 / np.maximum(product_before, 1 / (start / ionization + 1)[rows.row])
    spent = running_sum(term, rows) - term
    energy: Floats = product_before * (start[rows.row] - ionization * spent)
    return energy, share


def _points(quanta: Quanta) -> Deposits:
    """Leave all energy in one place."""
    steps = quanta.direction * POINT_STEP
    return make(quanta.position, steps, quanta.energy, quanta.energy * 0.8, quanta.origin)
