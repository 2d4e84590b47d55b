"""Noise pixels: where noise alone exceeds the threshold, and by how much."""

import numpy as np
import numpy.typing as npt

from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.ragged import layout, running_sum

Pixels = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


def noise_pixels(detector: Detector, plane: int, rng: np.random.Generator) -> Pixels:
    """Draw pixels (tick * wires + wire, in any order, a few of them twice) and their charges of noise in one plane."""
    low, high = (_half(detector, plane, side, rng) for side in (False, True))
    return np.concatenate([low[0], high[0]]), np.concatenate([low[1], high[1]])


def noise_sigma(detector: Detector, plane: int, high: bool) -> float:
    """Charge (sigma) of the noise in one half of a plane, above or below the threshold."""
    return detector.noise_loud_sigma if _loud(detector, plane, high) else detector.noise_quiet_sigma


def _half(detector: Detector, plane: int, high: bool, rng: np.random.Generator) -> Pixels:
    mean = (detector.noise_pixels_high if high else detector.noise_pixels_low)[plane]
    loud = _loud(detector, plane, high)
    ticks = detector.n_ticks // 2
    chains = int(rng.poisson(mean * (1 - detector.noise_chain) if loud else mean))
    lengths = rng.geometric(1 - detector.noise_chain, chains) if loud else np.ones(chains, np.int64)
    rows = layout(lengths.astype(np.int64))
    gaps = np.where(
        rng.random(len(rows.row)) < detector.noise_adjacent, 1, 1 + rng.geometric(1 / detector.noise_gap, len(rows.row))
    )
    gaps[rows.starts] = rng.integers(0, ticks, chains)
    tick = running_sum(gaps.astype(np.float64), rows).astype(np.int64) % ticks
    wire = rng.integers(detector.wire_first[plane], detector.wire_last[plane] + 1, chains)[rows.row]
    value = _above_threshold(detector, plane, high, len(tick), rng)
    return ((tick + high * ticks) * detector.n_wires + wire).astype(np.int32), value


def _above_threshold(
    detector: Detector, plane: int, high: bool, count: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Tail of a Gaussian above the threshold, in closed form."""
    sigma = noise_sigma(detector, plane, high)
    tail = detector.threshold**2 + 2 * sigma**2 * rng.standard_exponential(count)
    return np.sqrt(tail).astype(np.float32)


def _loud(detector: Detector, plane: int, high: bool) -> bool:
    mean = (detector.noise_pixels_high if high else detector.noise_pixels_low)[plane]
    wires = detector.wire_last[plane] - detector.wire_first[plane] + 1
    return mean / (wires * detector.n_ticks / 2) > detector.noise_loud_density
