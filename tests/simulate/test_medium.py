import numpy as np
import pytest

from cosmictagger.simulate import medium


def test_minimum_ionizing_loss_is_that_of_liquid_argon():
    loss = medium.stopping_power(medium.MASSES[medium.MUON], np.geomspace(100, 1000, 200))
    assert loss.min() == pytest.approx(2.105, rel=0.01)  # PDG, liquid argon


def test_proton_range():
    """7.72 g/cm2 in water (PSTAR, 100 MeV), scaled by the ratio of the stopping powers, 0.716 there and less below."""
    table = medium.range_table(medium.PROTON, 1.0)
    assert table.range_of(np.array([100.0]))[0] == pytest.approx(7.718 / 0.716 / medium.DENSITY, rel=0.03)


@pytest.mark.parametrize("species", [medium.MUON, medium.PION, medium.PROTON])
def test_energy_and_range_are_inverse(species):
    table = medium.range_table(species, 1.0)
    energy = np.array([5.0, 50.0, 500.0, 5000.0])
    assert table.energy_of(table.range_of(energy)) == pytest.approx(energy, rel=1e-3)


def test_loss_rises_towards_the_end_of_the_range():
    table = medium.range_table(medium.MUON, 1.0)
    left = np.array([0.5, 1.0, 5.0, 50.0])
    loss = (table.energy_of(left) - table.energy_of(left - 0.3)) / 0.3
    assert (np.diff(loss) < 0).all()
    assert loss[0] > 4 * medium.MIP_LOSS


def test_dense_ionization_recombines_more():
    assert medium.recombination(np.array([medium.MIP_LOSS]))[0] == pytest.approx(1.0)
    assert medium.recombination(np.array([15.0]))[0] == pytest.approx(0.56, abs=0.02)
