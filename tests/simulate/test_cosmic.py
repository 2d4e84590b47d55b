import numpy as np
import pytest
from scipy import stats

from cosmictagger.simulate.cosmic import cosmic_particles, muon_momentum, radiological_deposits, sky_area, sky_lines
from cosmictagger.simulate.detector import Detector

DETECTOR = Detector()
SMALLEST_P = 1e-3  # a right simulation fails one test in a thousand seeds; the seed is fixed


def test_zenith_angles_follow_cos_squared():
    """All lines through a sphere: density cos2 sin, so that the cube of the cosine is flat."""
    sphere_like = Detector(half_width=300.0, half_height=300.0, length=600.0)
    cosine = -sky_lines(sphere_like, 4000, np.random.default_rng(1)).direction[:, 1]
    # The cube's shadow depends on the angle; weigh it out through its area |ux| + |uy| + |uz|.
    directions = sky_lines(sphere_like, 20_000, np.random.default_rng(2)).direction
    shadow = np.abs(directions).sum(axis=1)
    keep = np.random.default_rng(3).random(len(shadow)) < 1 / shadow
    assert stats.kstest(-(directions[keep, 1] ** 3) * -1 * -1, lambda x: np.clip(x, 0, 1)).pvalue > SMALLEST_P
    assert cosine.min() > 0


def test_azimuth_is_flat():
    directions = sky_lines(
        Detector(half_width=300.0, half_height=300.0, length=600.0), 8000, np.random.default_rng(4)
    ).direction
    quadrant = np.floor(np.arctan2(directions[:, 0], directions[:, 2]) / (np.pi / 2)).astype(int) + 2
    assert stats.chisquare(np.bincount(quadrant, minlength=4)).pvalue > SMALLEST_P


def test_lines_start_on_the_surface_and_cross_it():
    lines = sky_lines(DETECTOR, 2000, np.random.default_rng(5))
    x, y, z = lines.entry.T
    gaps = np.abs([np.abs(x) - 200, np.abs(y) - 200, z, z - 500]).min(axis=0)
    assert gaps.max() < 1e-6
    assert (lines.chord > 0).all()
    assert lines.chord.max() < 755


def test_number_of_muons():
    numbers = []
    for seed in range(300):
        tracks, _ = cosmic_particles(Detector(cosmic_protons=0.0), np.random.default_rng(seed), 0)
        numbers.append(len(tracks))
    lines = sky_lines(DETECTOR, 20_000, np.random.default_rng(6))
    expected = DETECTOR.cosmic_intensity * sky_area(DETECTOR) * DETECTOR.readout_time * 1e-6 * len(lines.chord) / 20_000
    assert np.mean(numbers) == pytest.approx(expected, rel=0.06)


def test_vertical_spectrum_has_its_sea_level_mean():
    """Mean momentum of vertical muons above 0.2 GeV/c: about 4 GeV/c."""
    momentum = muon_momentum(DETECTOR, np.ones(20_000), np.random.default_rng(7))
    assert 3.0 < momentum.mean() < 6.0
    assert momentum.min() >= 0.2
    assert np.median(momentum) == pytest.approx(2.0, rel=0.3)


def test_slanting_muons_are_harder():
    rng = np.random.default_rng(8)
    vertical, slanting = (muon_momentum(DETECTOR, np.full(5000, c), rng) for c in (1.0, 0.3))
    assert np.median(slanting) > 1.5 * np.median(vertical)


def test_times_fill_the_readout():
    tracks, _ = cosmic_particles(Detector(cosmic_intensity=5000.0), np.random.default_rng(9), 0)
    flat = tracks.origin.time / DETECTOR.readout_time + 0.5
    assert stats.kstest(flat, "uniform").pvalue > SMALLEST_P


def test_no_cosmic_rays_at_all():
    detector = Detector(cosmic_intensity=0.0, cosmic_showers=0.0, cosmic_protons=0.0, radiological_blips=0.0)
    tracks, showers = cosmic_particles(detector, np.random.default_rng(0), 0)
    assert len(tracks) == len(showers) == len(radiological_deposits(detector, np.random.default_rng(0))) == 0
