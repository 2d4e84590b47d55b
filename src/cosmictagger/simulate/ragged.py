"""Arrays of arrays laid end to end: all steps of all particles at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


class Ragged(NamedTuple):
    """The layout of rows of different lengths: `row` of each element and `place` within its row."""

    counts: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    place: npt.NDArray[np.int64]


def layout(counts: npt.NDArray[np.int64]) -> Ragged:
    """Lay rows of `counts` elements end to end."""
    starts = np.cumsum(counts) - counts
    row = np.repeat(np.arange(len(counts)), counts)
    return Ragged(counts, starts, row, np.arange(len(row)) - starts[row])


def running_sum(values: Floats, rows: Ragged) -> Floats:
    """Sum within each row up to and including each element, along axis 0."""
    total = np.cumsum(values, axis=0, dtype=np.float64)
    if not len(total):
        return total
    starts = np.minimum(rows.starts, len(values) - 1)
    before = total[starts] - values[starts]
    return total - np.repeat(before, rows.counts, axis=0)


def frames(direction: Floats) -> tuple[Floats, Floats]:
    """Make two unit vectors across each unit vector of `direction` [n, 3]."""
    x, y, z = direction.T
    vertical = np.abs(z) > 0.9
    # Across direction and z (or x, where that is too near): cross products written out, which is much faster.
    zero = np.zeros(len(direction))
    first = np.stack([np.where(vertical, zero, y), np.where(vertical, z, -x), np.where(vertical, -y, zero)], axis=1)
    first /= np.sqrt((first**2).sum(axis=1))[:, None]
    a, b, c = first.T
    return first, np.stack([y * c - z * b, z * a - x * c, x * b - y * a], axis=1)


def turn(direction: Floats, angle: Floats, azimuth: Floats) -> Floats:
    """Turn unit vectors [n, 3] by `angle` away from themselves, towards `azimuth` around themselves (radians)."""
    first, second = frames(direction)
    across = first * np.cos(azimuth)[:, None] + second * np.sin(azimuth)[:, None]
    return direction * np.cos(angle)[:, None] + across * np.sin(angle)[:, None]
