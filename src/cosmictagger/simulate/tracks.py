"""Muons, charged pions and protons: energy loss with its fluctuations, scattering, delta rays, decay at rest."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import ELECTRON, Quanta
from cosmictagger.simulate.deposits import Deposits, Origin, make
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.fluctuate import isotropic, moyal, scatter
from cosmictagger.simulate.ragged import Floats, Ragged, layout, running_sum, turn

MICHEL_ENDPOINT = 52.8  # MeV
MUON_LIFETIME = 2.2  # microseconds
NEGATIVE_MUON_LIFETIME = 0.57  # microseconds, captured by argon in three cases of four
CAPTURED = 0.75
_MICHEL_X = np.linspace(0, 1, 201)
_MICHEL_CUMULATIVE = 2 * _MICHEL_X**3 - _MICHEL_X**4  # of the spectrum x^2 (3 - 2x)


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Particles that ionize along a track: n of them, in columns.

    `species` as in `medium`, kinetic `energy` in MeV, `position` and `direction` [n, 3] in cm, `path` the cm
    after which they are no longer followed (they leave, or interact), `decays` whether an electron comes out of
    the stopping point and `negative` whether the particle may be captured instead.
    """

    species: npt.NDArray[np.int64]
    energy: Floats
    position: Floats
    direction: Floats
    path: Floats
    decays: npt.NDArray[np.bool_]
    negative: npt.NDArray[np.bool_]
    origin: Origin

    def __len__(self) -> int:
        return len(self.energy)


def join_tracks(parts: Sequence[Tracks]) -> Tracks:
    """Lay several lists of tracks end to end."""
    names = [field.name for field in dataclasses.fields(Tracks)][:-1]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    origin = Origin(
        *(np.concatenate([getattr(part.origin, f.name) for part in parts]) for f in dataclasses.fields(Origin))
    )
    return Tracks(**columns, origin=origin)


@dataclasses.dataclass(frozen=True)
class TrackEnds:
    """Where tracks stopped being followed: `position`, `direction` [n, 3], the kinetic `energy` left in MeV."""

    position: Floats
    direction: Floats
    energy: Floats


def follow_tracks(detector: Detector, tracks: Tracks, rng: np.random.Generator) -> tuple[Deposits, Quanta, TrackEnds]:
    """Follow every track to its end; give deposits, the electrons knocked on or born of decays, and the ends."""
    energy, length, rows = _energy_along(detector, tracks)
    start, end = energy[0], energy[1]
    species = tracks.species[rows.row]
    momentum_beta = start * (start + 2 * medium.MASSES[species]) / (start + medium.MASSES[species])
    directions = scatter(tracks.direction, medium.scattering_angle(momentum_beta, length), rows, rng)
    steps = directions * length[:, None]
    positions = tracks.position[rows.row] + running_sum(steps, rows) - steps / 2
    origin = tracks.origin.take(rows.row)
    lost = _fluctuate(detector, species, start, end, length, rng)
    charge = lost * medium.recombination((start - end) / np.maximum(length, 1e-6))
    deposits = make(positions, steps, lost, charge, origin)
    deltas = _delta_rays(detector, species, start, length, positions, directions, origin, rng)
    last = rows.starts + rows.counts - 1
    ends = TrackEnds(positions[last] + steps[last] / 2, directions[last], end[last])
    return deposits, deltas.joined(_michel_electrons(tracks, ends, rng)), ends


def _energy_along(detector: Detector, tracks: Tracks) -> tuple[tuple[Floats, Floats], Floats, Ragged]:
    """Kinetic energies before and after each step, and its length: from the range that is left."""
    ranges = np.zeros(len(tracks))
    for species in np.unique(tracks.species):
        table = medium.range_table(int(species), detector.delta_ray_min)
        chosen = tracks.species == species
        ranges[chosen] = table.range_of(tracks.energy[chosen])
    path = np.maximum(np.minimum(ranges, tracks.path), 1e-3)
    rows = layout(np.maximum(np.ceil(path / detector.track_step), 1).astype(np.int64))
    travelled = rows.place * detector.track_step
    length = np.minimum(detector.track_step, path[rows.row] - travelled)
    left = ranges[rows.row] - travelled
    before, after = np.zeros(len(left)), np.zeros(len(left))
    for species in np.unique(tracks.species):
        table = medium.range_table(int(species), detector.delta_ray_min)
        chosen = slice(None) if np.all(tracks.species == species) else tracks.species[rows.row] == species
        before[chosen] = table.energy_of(left[chosen])
        after[chosen] = table.energy_of(np.maximum(left - length, 0)[chosen])
    return (np.maximum(before, 1e-3), after), length, rows


def _fluctuate(
    detector: Detector,
    species: npt.NDArray[np.int64],
    start: Floats,
    end: Floats,
    length: Floats,
    rng: np.random.Generator,
) -> Floats:
    """Loss in each step: the mean of transfers too small for delta rays, with the spread of a Moyal distribution."""
    kept = np.ones(len(start))
    for kind in np.unique(species):
        table = medium.range_table(int(kind), detector.delta_ray_min)
        kept = np.where(species == kind, np.interp(start, table.energy, table.kept), kept)
    mean = (start - end) * kept
    gamma = 1 + start / medium.MASSES[species]
    width = medium.LANDAU_WIDTH * length / (1 - 1 / gamma**2)
    lost: Floats = np.maximum(mean + np.minimum(width, mean / 4) * moyal(rng, len(start)), 0.2 * mean)
    return lost


def _delta_rays(
    detector: Detector,
    species: npt.NDArray[np.int64],
    energy: Floats,
    length: Floats,
    positions: Floats,
    directions: Floats,
    origin: Origin,
    rng: np.random.Generator,
) -> Quanta:
    """Knock on electrons with the spectrum (1 - beta^2 T / Tmax) / T^2 between the threshold and the kinematic limit."""
    mass = medium.MASSES[species]
    gamma = 1 + energy / mass
    beta2 = 1 - 1 / gamma**2
    low = detector.delta_ray_min
    high = np.maximum(medium.largest_transfer(mass, energy), low)
    chance = medium.LANDAU_WIDTH * length / beta2 * (1 / low - 1 / high)
    hit = np.flatnonzero(rng.random(len(energy)) < chance)
    kinetic = low / (1 - rng.random(len(hit)) * (1 - low / high[hit]))
    kept = rng.random(len(hit)) > beta2[hit] * kinetic / high[hit]
    hit, kinetic = hit[kept], np.minimum(kinetic[kept], energy[hit[kept]])
    cosine = np.sqrt(kinetic / (kinetic + 2 * medium.ELECTRON_MASS) / beta2[hit])
    angle = np.arccos(np.minimum(cosine, 1))
    direction = turn(directions[hit], angle, rng.uniform(0, 2 * np.pi, len(hit)))
    return Quanta(np.full(len(hit), ELECTRON), kinetic, positions[hit], direction, origin.take(hit))


def _michel_electrons(tracks: Tracks, ends: TrackEnds, rng: np.random.Generator) -> Quanta:
    """Decay the muons (and pions, by way of a muon) that came to rest."""
    stopped = np.flatnonzero(tracks.decays & (ends.energy <= 0))
    captured = tracks.negative[stopped] & (rng.random(len(stopped)) < CAPTURED)
    stopped = stopped[~captured]
    count = len(stopped)
    x = np.interp(rng.random(count), _MICHEL_CUMULATIVE, _MICHEL_X)
    origin = tracks.origin.take(stopped)
    lifetime = np.where(tracks.negative[stopped], NEGATIVE_MUON_LIFETIME, MUON_LIFETIME)
    later = dataclasses.replace(origin, time=origin.time + rng.exponential(1.0, count) * lifetime)
    return Quanta(
        np.full(count, ELECTRON), x * MICHEL_ENDPOINT + 0.1, ends.position[stopped], isotropic(rng, count), later
    )
