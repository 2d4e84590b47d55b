"""Liquid argon: energy loss, range, scattering, recombination and photon attenuation.

Constants are those of the Particle Data Group's review for liquid argon at 1.396 g/cm3.
"""

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]

DENSITY = 1.396  # g/cm3
Z_OVER_A = 18 / 39.948
RADIATION_LENGTH = 14.0  # cm
CRITICAL_ENERGY = 32.8  # MeV
MOLIERE_RADIUS = 9.0  # cm
MIP_LOSS = 2.1  # MeV/cm of a minimum-ionizing particle
ELECTRON_LOSS = 2.1  # MeV/cm by ionization of an electron above 1 MeV, nearly constant
ELECTRON_MASS = 0.51099895  # MeV
MEAN_EXCITATION = 188e-6  # MeV
LANDAU_WIDTH = 0.1535 * Z_OVER_A * DENSITY  # MeV/cm: the width per cm of a Landau distribution at beta = 1
MOYAL_MEAN = 1.2703628  # mean of the standard Moyal distribution
MUON, PION, PROTON = 0, 1, 2
MASSES = np.array([105.6583755, 139.57039, 938.2720813])  # MeV, by species

_DENSITY_EFFECT = {"c": 5.2146, "x0": 0.2, "x1": 3.0, "a": 0.19559, "m": 3.0}
_BOX = (0.8, 0.0486 / (DENSITY * 0.5))  # Birks: A and k/(density x 0.5 kV/cm) in cm/MeV


@dataclasses.dataclass(frozen=True)
class RangeTable:
    """Energy and range of one species: kinetic `energy` in MeV, `range` in cm and `kept`.

    `kept` is the share of the mean loss that goes to electrons too slow to be followed as delta rays.
    """

    energy: npt.NDArray[np.float64]
    range: npt.NDArray[np.float64]
    kept: npt.NDArray[np.float64]

    def range_of(self, energy: Floats) -> npt.NDArray[np.float64]:
        """Look up the range in cm for a kinetic energy in MeV."""
        return np.interp(energy, self.energy, self.range)

    def energy_of(self, range_left: Floats) -> npt.NDArray[np.float64]:
        """Look up the kinetic energy in MeV for a range left in cm."""
        return np.interp(range_left, self.range, self.energy)


def largest_transfer(mass: float | Floats, energy: Floats) -> Floats:
    """Compute the largest MeV that a particle of kinetic `energy` (MeV) hands to an electron."""
    gamma = 1 + energy / mass
    ratio = ELECTRON_MASS / mass
    result: Floats = 2 * ELECTRON_MASS * (gamma**2 - 1) / (1 + 2 * gamma * ratio + ratio**2)
    return result


def stopping_power(mass: float, energy: Floats, cut: float = np.inf) -> npt.NDArray[np.float64]:
    """Compute the mean loss in MeV/cm by Bethe's formula, of transfers below `cut` MeV alone where given."""
    gamma = 1 + energy / mass
    beta2 = 1 - 1 / gamma**2
    momentum2 = gamma**2 - 1
    tmax = largest_transfer(mass, energy)
    tcut = np.minimum(tmax, cut)
    logarithm = np.log(2 * ELECTRON_MASS * momentum2 * tcut / MEAN_EXCITATION**2)
    bracket = 0.5 * logarithm - beta2 / 2 * (1 + tcut / tmax) - _density_effect(momentum2) / 2
    return np.asarray(2 * LANDAU_WIDTH / beta2 * np.maximum(bracket, 0.5))


@functools.cache
def range_table(species: int, delta_ray_min: float) -> RangeTable:
    """Integrate Bethe's formula for MUON, PION or PROTON, from rest to 2 TeV."""
    energy = np.geomspace(0.5, 2e6, 600)
    mass = float(MASSES[species])
    loss = stopping_power(mass, energy)
    inverse = 1 / loss
    first = energy[0] / loss[0] / 2
    length = first + np.concatenate([[0], np.cumsum((inverse[1:] + inverse[:-1]) / 2 * np.diff(energy))])
    kept = stopping_power(mass, energy, delta_ray_min) / loss
    return RangeTable(
        np.concatenate([[0], energy]), np.concatenate([[0], length]), np.concatenate([[1], np.minimum(kept, 1)])
    )


def scattering_angle(momentum_beta: Floats, step: float | Floats) -> Floats:
    """Compute the plane angle (radians, sigma) of multiple scattering over `step` cm, `momentum_beta` = p beta c in MeV.

    Highland's formula, its logarithm taken at one radiation length, so that steps of any size add up.
    """
    result: Floats = 13.6 / momentum_beta * np.sqrt(step / RADIATION_LENGTH)
    return result


def recombination(loss: Floats) -> Floats:
    """Compute the share of electrons that escape recombination at `loss` MeV/cm, relative to a MIP (Birks)."""
    _, k = _BOX
    result: Floats = (1 + k * MIP_LOSS) / (1 + k * loss)
    return result


_PHOTON_ENERGY = np.log([0.05, 0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 300.0, 1e3, 1e4])
_PHOTON_LENGTH = np.array([1.0, 4.0, 7.0, 8.6, 12.0, 17.0, 24.0, 27.0, 27.0, 24.0, 21.5, 19.5, 18.3, 18.0])
_COMPTON_SHARE = np.array([0.3, 0.7, 0.98, 1.0, 1.0, 0.95, 0.68, 0.42, 0.24, 0.1, 0.05, 0.02, 0.0, 0.0])


def photon_length(energy: Floats) -> Floats:
    """Look up the mean free path in cm of photons of `energy` MeV."""
    return np.asarray(np.interp(np.log(energy), _PHOTON_ENERGY, _PHOTON_LENGTH))


def compton_share(energy: Floats) -> Floats:
    """Look up the chance that an interacting photon of `energy` MeV scatters rather than makes a pair."""
    return np.asarray(np.interp(np.log(energy), _PHOTON_ENERGY, _COMPTON_SHARE))


def _density_effect(momentum2: Floats) -> Floats:
    d = _DENSITY_EFFECT
    x = np.log10(np.sqrt(momentum2))
    tail = 2 * np.log(10) * x - d["c"]
    middle = tail + d["a"] * np.maximum(d["x1"] - x, 0) ** d["m"]
    return np.where(x < d["x0"], 0, np.maximum(middle, 0))
