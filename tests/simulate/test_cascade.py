import numpy as np
import pytest

from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import ELECTRON, PHOTON, follow_quanta, no_quanta
from cosmictagger.simulate.detector import Detector

from .helpers import quanta

WIDE = Detector(half_width=400.0, half_height=400.0, length=1000.0)  # nothing escapes


@pytest.fixture(scope="module")
def shower():
    count = 40
    return follow_quanta(WIDE, quanta(ELECTRON, 1000.0, count), np.random.default_rng(1)), count


def test_energy_is_conserved(shower):
    """Lost: twice the electron mass for each pair, as the positron's annihilation is not followed."""
    deposits, count = shower
    assert 0.93 < deposits.energy.sum() / (count * 1000) < 1.01


def test_longitudinal_shape(shower):
    """Energy-weighted mean depth of Longo's gamma profile, a / b with a = 1 + b (ln E/Ec - 0.5), b = 0.5."""
    deposits, _ = shower
    depth = np.average(deposits.position[:, 2] - 150, weights=deposits.energy) / medium.RADIATION_LENGTH
    expected = (1 + 0.5 * (np.log(1000 / medium.CRITICAL_ENERGY) - 0.5)) / 0.5
    assert depth == pytest.approx(expected, rel=0.2)


def test_lateral_shape(shower):
    """By definition nine tenths of the energy lie within the Moliere radius; soft photons make our halo a bit wide."""
    deposits, _ = shower
    radius = np.hypot(deposits.position[:, 0] - 100, deposits.position[:, 1])
    inside = deposits.energy[radius < medium.MOLIERE_RADIUS].sum() / deposits.energy.sum()
    assert inside == pytest.approx(0.9, abs=0.08)


def test_photons_convert_after_a_gap():
    deposits = follow_quanta(WIDE, quanta(PHOTON, 300.0, 300), np.random.default_rng(2))
    first = np.full(300, np.inf)
    np.minimum.at(first, deposits.instance, deposits.position[:, 2] - 150)
    assert first.mean() == pytest.approx(float(medium.photon_length(np.array([300.0]))[0]), rel=0.2)


def test_an_electron_starts_at_once():
    deposits = follow_quanta(WIDE, quanta(ELECTRON, 300.0, 50), np.random.default_rng(3))
    first = np.full(50, np.inf)
    np.minimum.at(first, deposits.instance, deposits.position[:, 2] - 150)
    assert first.max() < 0.5


def test_nothing_in_nothing_out():
    assert len(follow_quanta(WIDE, no_quanta(), np.random.default_rng(0))) == 0
