import numpy as np
import pytest

from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.noise import noise_pixels

DETECTOR = Detector()


@pytest.mark.parametrize("plane", range(3))
def test_densities_of_each_half(plane):
    halves = []
    for seed in range(20):
        pixel, _ = noise_pixels(DETECTOR, plane, np.random.default_rng(seed))
        tick = np.unique(pixel) // DETECTOR.n_wires
        halves.append([(tick < 640).sum(), (tick >= 640).sum()])
    expected = [DETECTOR.noise_pixels_low[plane], DETECTOR.noise_pixels_high[plane]]
    assert np.mean(halves, axis=0) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize("plane", range(3))
def test_pixels_lie_on_connected_wires_above_threshold(plane):
    pixel, value = noise_pixels(DETECTOR, plane, np.random.default_rng(1))
    wire = pixel % DETECTOR.n_wires
    assert wire.min() >= DETECTOR.wire_first[plane]
    assert wire.max() <= DETECTOR.wire_last[plane]
    assert value.min() >= DETECTOR.threshold


def test_charge_spectrum_of_the_loud_half():
    """As in SBND simulation: median 5.5, 90 % below 6.6, 99 % below 8.1."""
    pixel, value = noise_pixels(DETECTOR, 0, np.random.default_rng(2))
    loud = value[pixel // DETECTOR.n_wires >= 640]
    assert np.percentile(loud, [50, 90, 99]) == pytest.approx([5.52, 6.6, 8.1], rel=0.03)


def test_loud_noise_comes_in_bunches_along_its_wire():
    """In SBND simulation the next tick is 30 times likelier to have noise, that 60 ticks away no more than any."""
    image = np.zeros(DETECTOR.shape, bool)
    pixel, _ = noise_pixels(DETECTOR, 0, np.random.default_rng(3))
    image.flat[pixel] = True
    loud = image[640:]
    density = loud.mean()

    def excess(distance: int) -> float:
        return (loud[distance:] & loud[:-distance]).mean() / density**2

    assert excess(1) == pytest.approx(31, rel=0.25)
    assert excess(5) == pytest.approx(10, rel=0.4)
    assert excess(100) == pytest.approx(1, abs=0.4)


def test_a_silent_detector():
    silent = Detector(noise_pixels_low=(0.0, 0.0, 0.0), noise_pixels_high=(0.0, 0.0, 0.0))
    assert len(noise_pixels(silent, 0, np.random.default_rng(0))[0]) == 0
