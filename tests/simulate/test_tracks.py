import numpy as np
import pytest

from cosmictagger.simulate import medium
from cosmictagger.simulate.cascade import ELECTRON, follow_quanta
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.tracks import follow_tracks

from .helpers import tracks

DETECTOR = Detector()


def test_muon_loses_2_1_mev_per_cm():
    """Within 10 % for a minimum-ionizing muon: fluctuations and delta rays together, and the track alone."""
    muons = tracks(400.0, (0.3, -0.8, 0.5), count=200, path=50.0)
    deposits, electrons, _ = follow_tracks(DETECTOR, muons, np.random.default_rng(1))
    deltas = electrons.energy[electrons.kind == ELECTRON].sum()
    per_cm = (deposits.energy.sum() + deltas) / (200 * 50)
    assert per_cm == pytest.approx(2.1, rel=0.1)
    assert deposits.energy.sum() / (200 * 50) == pytest.approx(2.1, rel=0.1)


def test_a_stopping_muon_deposits_its_energy():
    """Deposits, delta rays and Michel electrons together: 3 % covers the cut tails of the fluctuations."""
    muons = tracks(300.0, (0, 0, 1), count=200)
    deposits, electrons, ends = follow_tracks(DETECTOR, muons, np.random.default_rng(2))
    assert (deposits.energy.sum() + electrons.energy.sum()) / 200 == pytest.approx(300.0, rel=0.03)
    assert (ends.energy == 0).all()


def test_fluctuations_have_a_tail_above_the_most_probable_loss():
    muons = tracks(1000.0, (0, 0, 1), count=100, path=60.0)
    deposits, _, _ = follow_tracks(DETECTOR, muons, np.random.default_rng(3))
    loss = deposits.energy / DETECTOR.track_step
    assert np.median(loss) < loss.mean()
    assert 0.1 < (np.percentile(loss, 95) - np.median(loss)) / np.median(loss) < 2.0


def test_the_last_centimetre_is_brightest():
    muons = tracks(200.0, (0, 0, 1), count=100)
    deposits, _, ends = follow_tracks(DETECTOR, muons, np.random.default_rng(4))
    away = np.linalg.norm(deposits.position - ends.position[deposits.instance], axis=1)
    density = [
        deposits.energy[(away >= low) & (away < high)].sum() / 100 / (high - low) for low, high in ((0, 1), (20, 30))
    ]
    assert density[0] > 2 * density[1]


def test_decays_give_michel_electrons():
    muons = tracks(100.0, (0, 0, 1), count=4000, decays=True)
    _, electrons, ends = follow_tracks(Detector(delta_ray_min=20.0), muons, np.random.default_rng(5))
    assert len(electrons) == 4000
    assert electrons.energy.max() < 53.0
    assert electrons.energy.mean() == pytest.approx(0.7 * 52.8, rel=0.02)  # mean of x^2 (3 - 2x) is 0.7
    late = electrons.origin.time.mean()
    assert late == pytest.approx(2.2, rel=0.1)
    assert np.allclose(electrons.position, ends.position)


def test_michel_electrons_leave_their_energy_near_the_end():
    muons = tracks(100.0, (0, 0, 1), count=200, decays=True)
    rng = np.random.default_rng(6)
    _, electrons, _ = follow_tracks(Detector(delta_ray_min=20.0), muons, rng)
    deposits = follow_quanta(DETECTOR, electrons, rng)
    assert deposits.energy.sum() == pytest.approx(electrons.energy.sum(), rel=0.05)


def test_scattering_has_highlands_size():
    muons = tracks(500.0, (0, 0, 1), count=2000, path=14.0)
    _, _, ends = follow_tracks(DETECTOR, muons, np.random.default_rng(7))
    momentum_beta = 500 * (500 + 2 * 105.66) / (500 + 105.66)
    assert ends.direction[:, 0].std() == pytest.approx(13.6 / momentum_beta, rel=0.1)


def test_delta_rays_follow_the_inverse_square():
    muons = tracks(10_000.0, (0, 0, 1), count=200, path=100.0)
    _, electrons, _ = follow_tracks(DETECTOR, muons, np.random.default_rng(8))
    expected = medium.LANDAU_WIDTH * 200 * 100 / DETECTOR.delta_ray_min
    assert len(electrons) == pytest.approx(expected, rel=0.1)
    above = (electrons.energy > 4).sum() / len(electrons)
    assert above == pytest.approx(0.25, abs=0.03)


def test_no_tracks_leave_nothing():
    deposits, electrons, _ = follow_tracks(DETECTOR, tracks(100.0, (0, 0, 1), count=0), np.random.default_rng(0))
    assert len(deposits) == len(electrons) == 0
