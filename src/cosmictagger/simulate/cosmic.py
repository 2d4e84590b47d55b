"""What the sky sends: muons, electromagnetic showers and knocked-on protons, each at its own time."""

import dataclasses

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import BACKGROUND, COSMIC
from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import ELECTRON, PHOTON, Quanta
from cosmictagger.simulate.deposits import Deposits, Origin, make
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.fluctuate import isotropic
from cosmictagger.simulate.ragged import Floats, turn
from cosmictagger.simulate.tracks import Tracks, join_tracks

POSITIVE_SHARE = 0.56  # of cosmic muons at sea level
SHOWER_INDEX = 1.7  # of the power law of shower energies
PROTON_ENERGY = (20.0, 80.0)  # MeV: least, and mean above it, of knocked-on protons
_REYNA = (0.00253, 0.2455, 1.288, -0.2555, 0.0209)


@dataclasses.dataclass(frozen=True)
class Lines:
    """Straight lines through the active volume: `entry` and `direction` [n, 3], `chord` in cm."""

    entry: Floats
    direction: Floats
    chord: Floats


def cosmic_particles(detector: Detector, rng: np.random.Generator, instance: int) -> tuple[Tracks, Quanta]:
    """Draw all cosmic particles of one readout; their instances count up from `instance`."""
    muons = _muons(detector, rng, instance)
    instance += len(muons)
    protons = _protons(detector, rng, instance)
    showers = _showers(detector, rng, instance + len(protons))
    return join_tracks([muons, protons]), showers


def sky_lines(detector: Detector, count: int, rng: np.random.Generator) -> Lines:
    """Draw `count` lines from the sky, intensity cos2 of the zenith angle, and keep those that meet the volume.

    Each line goes through a disc across it that covers the volume from any side; see `sky_area`.
    """
    cosine = np.cbrt(rng.random(count))
    azimuth = rng.uniform(0, 2 * np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    direction = np.stack([sine * np.cos(azimuth), -cosine, sine * np.sin(azimuth)], axis=1)
    radius = _radius(detector) * np.sqrt(rng.random(count))
    across = turn(direction, np.full(count, np.pi / 2), rng.uniform(0, 2 * np.pi, count))
    through = np.array([0, 0, detector.length / 2]) + across * radius[:, None]
    near, far = _crossing(detector, through, direction)
    hit = far > near
    return Lines((through + direction * near[:, None])[hit], direction[hit], (far - near)[hit])


def sky_area(detector: Detector) -> float:
    """Area of that disc in m2, times the integral of cos2 over the sky in sr."""
    return np.pi * (_radius(detector) / 100) ** 2 * 2 * np.pi / 3


def muon_momentum(detector: Detector, cosine: Floats, rng: np.random.Generator) -> Floats:
    """Draw momenta in GeV/c at the zenith angles given, from Reyna's fit of the sea-level spectrum.

    The fit (hep-ph/0604145) depends on the angle through p cos(zenith) alone.
    """
    low, high = detector.muon_momentum_min, detector.muon_momentum_max
    zeta = np.geomspace(low * 0.02, high, 800)
    logarithm = np.log10(zeta)
    c1, c2, c3, c4, c5 = _REYNA
    power = c2 + c3 * logarithm + c4 * logarithm**2 + c5 * logarithm**3
    density = np.where(zeta > 0.05, c1 * zeta**-power, c1 * 0.05 ** -(c2 + c3 * -1.301 + c4 * 1.693 + c5 * -2.202))
    cumulative = np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(zeta))])
    start = np.interp(low * cosine, zeta, cumulative)
    stop = np.interp(high * cosine, zeta, cumulative)
    return np.asarray(np.interp(start + (stop - start) * rng.random(len(cosine)), cumulative, zeta)) / cosine


def radiological_deposits(detector: Detector, rng: np.random.Generator) -> Deposits:
    """Scatter small decays over the volume and the readout time; they belong to the background."""
    count = int(rng.poisson(detector.radiological_blips))
    origin = Origin(_times(detector, count, rng), np.full(count, BACKGROUND, np.uint8), np.full(count, -1, np.int32))
    energy = rng.exponential(detector.radiological_energy, count)
    steps = isotropic(rng, count) * (energy / medium.ELECTRON_LOSS / 2)[:, None]
    return make(_anywhere(detector, count, rng), steps, energy, energy, origin)


def _muons(detector: Detector, rng: np.random.Generator, instance: int) -> Tracks:
    mean = detector.cosmic_intensity * sky_area(detector) * detector.readout_time * 1e-6
    lines = sky_lines(detector, int(rng.poisson(mean)), rng)
    count = len(lines.chord)
    cosine = np.maximum(-lines.direction[:, 1], 0.02)
    momentum = muon_momentum(detector, cosine, rng) * 1000
    mass = medium.MASSES[medium.MUON]
    return Tracks(
        species=np.full(count, medium.MUON),
        energy=np.sqrt(momentum**2 + mass**2) - mass,
        position=lines.entry,
        direction=lines.direction,
        path=lines.chord * 1.02 + 2,
        decays=np.ones(count, bool),
        negative=rng.random(count) > POSITIVE_SHARE,
        origin=_origin(detector, count, rng, instance),
    )


def _protons(detector: Detector, rng: np.random.Generator, instance: int) -> Tracks:
    count = int(rng.poisson(detector.cosmic_protons))
    least, mean = PROTON_ENERGY
    return Tracks(
        species=np.full(count, medium.PROTON),
        energy=least + rng.exponential(mean, count),
        position=_anywhere(detector, count, rng),
        direction=isotropic(rng, count),
        path=np.full(count, np.inf),
        decays=np.zeros(count, bool),
        negative=np.zeros(count, bool),
        origin=_origin(detector, count, rng, instance),
    )


def _showers(detector: Detector, rng: np.random.Generator, instance: int) -> Quanta:
    wanted = int(rng.poisson(detector.cosmic_showers))
    lines = sky_lines(detector, 4 * wanted, rng)
    count = min(wanted, len(lines.chord))
    low, high = detector.cosmic_shower_energy_min, detector.cosmic_shower_energy_max
    power = 1 - SHOWER_INDEX
    energy = (low**power + (high**power - low**power) * rng.random(count)) ** (1 / power)
    kind = np.where(rng.random(count) < 0.5, ELECTRON, PHOTON)
    origin = _origin(detector, count, rng, instance)
    return Quanta(kind, energy, lines.entry[:count], lines.direction[:count], origin)


def _origin(detector: Detector, count: int, rng: np.random.Generator, instance: int) -> Origin:
    numbers = np.arange(instance, instance + count, dtype=np.int32)
    return Origin(_times(detector, count, rng), np.full(count, COSMIC, np.uint8), numbers)


def _times(detector: Detector, count: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    return rng.uniform(-0.5, 0.5, count) * detector.readout_time


def _anywhere(detector: Detector, count: int, rng: np.random.Generator) -> Floats:
    low = np.array([-detector.half_width, -detector.half_height, 0])
    high = np.array([detector.half_width, detector.half_height, detector.length])
    place: Floats = low + rng.random((count, 3)) * (high - low)
    return place


def _radius(detector: Detector) -> float:
    return float(np.sqrt(detector.half_width**2 + detector.half_height**2 + (detector.length / 2) ** 2))


def _crossing(detector: Detector, point: Floats, direction: Floats) -> tuple[Floats, Floats]:
    """Distances along each line at which it enters and leaves the active volume; entering last where it misses."""
    low = np.array([-detector.half_width, -detector.half_height, 0])
    high = np.array([detector.half_width, detector.half_height, detector.length])
    safe = np.where(np.abs(direction) < 1e-9, 1e-9, direction)
    first, second = (low - point) / safe, (high - point) / safe
    return np.minimum(first, second).max(axis=1), np.maximum(first, second).min(axis=1)
