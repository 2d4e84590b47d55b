"""Neutrino interactions at the beam time: what comes out of the nucleus, by simple rules that keep energy.

Not an event generator: energies, angles and multiplicities have the right size and correlation for images,
not for cross sections. The lepton takes the share 1 - y of the energy and balances the transverse momentum of
the hadrons; these are one proton (quasi-elastic), nucleon and pion (resonance), or nucleon and two pions.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from cosmictagger.data.events import NEUTRINO
from cosmictagger.errors import UserError
from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import ELECTRON, PHOTON, Quanta
from cosmictagger.simulate.deposits import Origin
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.fluctuate import isotropic
from cosmictagger.simulate.ragged import Floats, turn
from cosmictagger.simulate.tracks import Tracks

INTERACTIONS = ("nue_cc", "numu_cc", "nc")
KINDS = (*INTERACTIONS, "cosmic")
NU_E, NU_MU, E_MINUS, MU_MINUS, GAMMA = 12, 14, 11, 13, 22
PI_PLUS, PI_ZERO, NEUTRON_PDG, PROTON_PDG, ARGON = 211, 111, 2112, 2212, 1000180400
PDG_MASSES = {
    NU_E: 0.0, NU_MU: 0.0, GAMMA: 0.0, E_MINUS: medium.ELECTRON_MASS, MU_MINUS: 105.658, PI_PLUS: 139.57,
    -PI_PLUS: 139.57, PI_ZERO: 134.977, NEUTRON_PDG: 939.565, PROTON_PDG: 938.272,
}  # fmt: skip
SPECIES = {MU_MINUS: medium.MUON, PI_PLUS: medium.PION, -PI_PLUS: medium.PION, PROTON_PDG: medium.PROTON}
BINDING = 30.0  # MeV spent on taking a nucleon out of argon
INELASTICITY = (1.2, 2.8)  # of the beta distribution of the energy share that leaves the lepton, mean 0.3
TRANSVERSE = 0.3  # GeV/c, scale of the lepton's transverse momentum
HADRON_LENGTH = 85.0  # cm between nuclear interactions of pions and protons
NEUTRON_LENGTH = 60.0  # cm until a neutron knocks on a proton


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mix:
    """Shares of the kinds of events, which need not sum to 1, and the interactions of those that are not cosmic-only."""

    nue_cc: float = 0.3
    numu_cc: float = 0.3
    nc: float = 0.25
    cosmic: float = 0.15
    neutrinos: int = 1

    def __post_init__(self) -> None:
        shares = [getattr(self, kind) for kind in KINDS]
        if min(shares) < 0 or sum(shares) <= 0:
            raise UserError(f"mix: the shares of {', '.join(KINDS)} must be positive; at least one above 0.")
        if self.neutrinos < 1:
            raise UserError(f"--neutrinos: {self.neutrinos} is no number of interactions; take 1 or more.")

    def draw(self, rng: np.random.Generator, kinds: tuple[str, ...] = KINDS) -> str:
        """Draw the kind of one event, or of one interaction where `kinds` leaves out the cosmic-only events."""
        shares = np.cumsum([getattr(self, kind) for kind in kinds])
        return kinds[int(np.searchsorted(shares, rng.random() * shares[-1], side="right"))]


class Particle(NamedTuple):
    """One true particle: pdg code, momentum in GeV/c, energy with its mass in GeV, vertex in cm, time in ns."""

    pdg: int
    momentum: tuple[float, float, float]
    energy: float
    vertex: tuple[float, float, float]
    time: float
    parent: int  # place of the parent in the list, -1: none
    interaction: int = -1  # for the neutrino: 1001 quasi-elastic, 1003 resonance, 1005 two pions
    current: int = -1  # for the neutrino: 0 charged, 1 neutral

    def after(self, others: int) -> "Particle":
        """Take a place in a list where `others` come before its neutrino."""
        return self._replace(parent=self.parent + others) if self.parent >= 0 else self

    @property
    def kinetic(self) -> float:
        """Kinetic energy in MeV."""
        return max(self.energy * 1000 - PDG_MASSES[self.pdg], 0.0)


def interact(detector: Detector, kind: str, rng: np.random.Generator) -> list[Particle]:
    """Draw one interaction: the neutrino first, then what leaves the nucleus (and photons of neutral pions)."""
    energy = _neutrino_energy(detector, rng)
    vertex = (
        rng.uniform(-detector.half_width, detector.half_width),
        rng.uniform(-detector.half_height, detector.half_height),
        rng.uniform(0, detector.length),
    )
    time = rng.uniform(*detector.beam_window) * 1000
    flavour = NU_E if kind == "nue_cc" or (kind == "nc" and rng.random() < 0.01) else NU_MU
    lepton = flavour if kind == "nc" else flavour - 1
    mass = PDG_MASSES[lepton] / 1000
    transfer = energy * rng.beta(*INELASTICITY)
    transfer = min(max(transfer, 0.05), energy - mass - 0.02)
    event = _Vertex(vertex, time, rng)
    pions = _pions(transfer, rng)
    event.add(flavour, np.array([0, 0, energy]), -1, interaction=1001 + 2 * pions, current=int(kind == "nc"))
    lepton_momentum = _lepton_momentum(energy - transfer, mass, rng)
    event.add(lepton, lepton_momentum, 0)
    _add_hadrons(event, np.array([0, 0, energy]) - lepton_momentum, transfer, pions, charged=kind != "nc")
    return event.particles


class _Vertex:
    """Particles being collected at one place and time."""

    def __init__(self, vertex: tuple[float, float, float], time: float, rng: np.random.Generator) -> None:
        self.vertex, self.time, self.rng = vertex, time, rng
        self.particles: list[Particle] = []

    def add(self, pdg: int, momentum: Floats, parent: int, interaction: int = -1, current: int = -1) -> int:
        energy = float(np.sqrt(momentum @ momentum + (PDG_MASSES[pdg] / 1000) ** 2))
        px, py, pz = (float(part) for part in momentum)
        self.particles.append(Particle(pdg, (px, py, pz), energy, self.vertex, self.time, parent, interaction, current))
        return len(self.particles) - 1

    def add_kinetic(self, pdg: int, kinetic: float, direction: Floats, parent: int) -> int:
        mass = PDG_MASSES[pdg] / 1000
        return self.add(pdg, direction * np.sqrt(kinetic * (kinetic + 2 * mass)), parent)


def _neutrino_energy(detector: Detector, rng: np.random.Generator) -> float:
    for _ in range(100):
        energy = float(rng.gamma(detector.neutrino_energy_shape, detector.neutrino_energy_scale))
        if detector.neutrino_energy_min < energy < detector.neutrino_energy_max:
            return energy
    return float(rng.uniform(detector.neutrino_energy_min, detector.neutrino_energy_max))


def _lepton_momentum(energy: float, mass: float, rng: np.random.Generator) -> Floats:
    size = float(np.sqrt(max(energy**2 - mass**2, 1e-6)))
    across = min(float(rng.rayleigh(TRANSVERSE)), size * float(rng.random()) ** 0.5)
    azimuth = rng.uniform(0, 2 * np.pi)
    return np.array([across * np.cos(azimuth), across * np.sin(azimuth), np.sqrt(size**2 - across**2)])


def _pions(transfer: float, rng: np.random.Generator) -> int:
    """Number of pions, from the energy transfer in GeV: none when there is too little for one."""
    if transfer < 0.25:
        return 0
    chances = np.array([max(1 - transfer, 0.15), 0.7, max(transfer - 0.6, 0)])
    return int(rng.choice(3, p=chances / chances.sum()))


def _add_hadrons(event: _Vertex, momentum: Floats, transfer: float, pions: int, charged: bool) -> None:
    """Share the transfer (GeV) among nucleons and pions, around the direction of the momentum transfer."""
    rng = event.rng
    nucleons = 1 + int(rng.poisson(0.5))
    kinds = [
        PROTON_PDG if rng.random() < (0.8 if charged and pions == 0 else 0.5) else NEUTRON_PDG for _ in range(nucleons)
    ]
    kinds += [(PI_PLUS, -PI_PLUS, PI_ZERO)[int(rng.choice(3, p=(0.45, 0.2, 0.35)))] for _ in range(pions)]
    masses = sum(PDG_MASSES[pdg] / 1000 for pdg in kinds[nucleons:])
    available = transfer - masses - nucleons * BINDING / 1000
    if available <= 0.002:
        kinds, available = [PROTON_PDG], max(transfer - BINDING / 1000, 0.01)
    weights = np.array([1.6 if abs(pdg) < 1000 else 1.0 for pdg in kinds])
    shares = rng.dirichlet(weights * 1.5) * available
    axis = momentum / np.linalg.norm(momentum)
    for pdg, kinetic in zip(kinds, shares, strict=True):
        spread = min(float(rng.rayleigh(0.6)), np.pi) if pions or nucleons > 1 else min(float(rng.rayleigh(0.3)), np.pi)
        direction = turn(axis[None], np.array([spread]), rng.uniform(0, 2 * np.pi, 1))[0]
        place = event.add_kinetic(pdg, float(kinetic), direction, 0)
        if pdg == PI_ZERO:
            _decay_pion(event, place)


def _decay_pion(event: _Vertex, place: int) -> None:
    """Let a neutral pion decay into two photons, back to back in its rest frame."""
    pion = event.particles[place]
    along = np.array(pion.momentum) / pion.energy
    beta2 = float(along @ along)
    gamma = 1 / np.sqrt(1 - beta2)
    half = PDG_MASSES[PI_ZERO] / 2000
    axis = isotropic(event.rng, 1)[0]
    for sign in (1, -1):
        flat = half * sign * axis
        factor = (gamma - 1) * (flat @ along) / max(beta2, 1e-12) + gamma * half
        event.add(GAMMA, flat + factor * along, place)


def to_follow(particles: list[Particle], rng: np.random.Generator, instance: int) -> tuple[Tracks, Quanta]:
    """Turn the particles that leave something in the argon into tracks and quanta; instances count from `instance`."""
    tracks: list[tuple[int, float, Floats, Floats, float, float, int]] = []
    quanta: list[tuple[int, float, Floats, Floats, float, int]] = []
    for number, particle in enumerate(particles, instance):
        size = float(np.linalg.norm(particle.momentum))
        if size == 0:
            continue
        place, direction = np.array(particle.vertex), np.array(particle.momentum) / size
        time = particle.time / 1000
        if particle.pdg in SPECIES:
            path = np.inf if particle.pdg == MU_MINUS else float(rng.exponential(HADRON_LENGTH))
            tracks.append((particle.pdg, particle.kinetic, place, direction, path, time, number))
        elif particle.pdg in (E_MINUS, GAMMA):
            kind = ELECTRON if particle.pdg == E_MINUS else PHOTON
            quanta.append((kind, particle.kinetic, place, direction, time, number))
        elif particle.pdg == NEUTRON_PDG:
            _neutron(particle.kinetic, place, direction, time, number, rng, tracks, quanta)
    _de_excitation(particles[0], rng, instance, quanta)
    return _tracks(tracks), _quanta(quanta)


def secondaries(
    tracks: Tracks, energy_left: Floats, position: Floats, direction: Floats, rng: np.random.Generator
) -> Tracks:
    """Let the pions and protons that still had energy at the end of their path break up a nucleus: protons come out."""
    chosen = np.flatnonzero((tracks.species != medium.MUON) & (energy_left > 60))
    chosen = np.repeat(chosen, rng.integers(1, 4, len(chosen)))
    count = len(chosen)
    return Tracks(
        species=np.full(count, medium.PROTON),
        energy=np.minimum(rng.exponential(60.0, count) + 15, energy_left[chosen]),
        position=position[chosen],
        direction=turn(
            direction[chosen], np.minimum(rng.rayleigh(0.9, count), np.pi), rng.uniform(0, 2 * np.pi, count)
        ),
        path=np.full(count, np.inf),
        decays=np.zeros(count, bool),
        negative=np.zeros(count, bool),
        origin=tracks.origin.take(chosen),
    )


def _neutron(
    kinetic: float,
    place: Floats,
    direction: Floats,
    time: float,
    number: int,
    rng: np.random.Generator,
    tracks: list[tuple[int, float, Floats, Floats, float, float, int]],
    quanta: list[tuple[int, float, Floats, Floats, float, int]],
) -> None:
    """Let a neutron knock on protons, and make a nucleus shine, at some distance each."""
    for _ in range(int(rng.poisson(1.5))):
        direction = turn(direction[None], rng.rayleigh(0.7, 1), rng.uniform(0, 2 * np.pi, 1))[0]
        place = place + direction * rng.exponential(NEUTRON_LENGTH)
        share = kinetic * float(rng.random())
        kinetic -= share
        if share > 10:
            tracks.append((PROTON_PDG, share, place, direction, float(rng.exponential(HADRON_LENGTH)), time, number))
        quanta.extend(
            (PHOTON, 0.5 + float(rng.exponential(1.5)), place, way, time, number)
            for way in isotropic(rng, int(rng.poisson(2.5)))
        )


def _de_excitation(
    neutrino: Particle,
    rng: np.random.Generator,
    instance: int,
    quanta: list[tuple[int, float, Floats, Floats, float, int]],
) -> None:
    """Let the nucleus left behind send out a few soft photons."""
    place = np.array(neutrino.vertex)
    for way in isotropic(rng, int(rng.poisson(4.0))):
        quanta.append((PHOTON, 0.5 + float(rng.exponential(1.5)), place, way, neutrino.time / 1000, instance))


def _tracks(rows: list[tuple[int, float, Floats, Floats, float, float, int]]) -> Tracks:
    pdg = np.array([row[0] for row in rows], np.int64)
    return Tracks(
        species=np.array([SPECIES[row[0]] for row in rows], np.int64),
        energy=np.array([max(row[1], 0.1) for row in rows]),
        position=np.array([row[2] for row in rows]).reshape(-1, 3),
        direction=np.array([row[3] for row in rows]).reshape(-1, 3),
        path=np.array([row[4] for row in rows]),
        decays=np.isin(pdg, (MU_MINUS, PI_PLUS)),
        negative=pdg == MU_MINUS,
        origin=_origin([row[5] for row in rows], [row[6] for row in rows]),
    )


def _quanta(rows: list[tuple[int, float, Floats, Floats, float, int]]) -> Quanta:
    return Quanta(
        kind=np.array([row[0] for row in rows], np.int64),
        energy=np.array([row[1] for row in rows]),
        position=np.array([row[2] for row in rows]).reshape(-1, 3),
        direction=np.array([row[3] for row in rows]).reshape(-1, 3),
        origin=_origin([row[4] for row in rows], [row[5] for row in rows]),
    )


def _origin(times: list[float], numbers: list[int]) -> Origin:
    label = np.full(len(times), NEUTRINO, np.uint8)
    return Origin(np.array(times, dtype=np.float64), label, np.array(numbers, dtype=np.int32))
