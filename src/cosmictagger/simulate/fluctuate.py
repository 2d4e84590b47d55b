"""What chance does to a particle from step to step: scattering and the spread of its energy loss."""

import numpy as np

from cosmictagger.simulate.medium import MOYAL_MEAN
from cosmictagger.simulate.ragged import Floats, Ragged, frames, running_sum

LARGEST_TURN = 1.0  # radians (sigma) in one step, where the small-angle formula no longer holds
MOYAL_TAIL = 12.0  # widths above the mean at which the tail is cut


def scatter(direction: Floats, angle: Floats, rows: Ragged, rng: np.random.Generator) -> Floats:
    """Turn the direction of each row [rows, 3] by the sum of random plane angles (sigma `angle`) up to each step.

    The two plane angles add up like longitude and latitude around the first direction, so that the result
    stays a unit vector however far an electron curls.
    """
    turns = rng.standard_normal((len(angle), 2), dtype=np.float32) * np.minimum(angle, LARGEST_TURN)[:, None]
    side, up = running_sum(turns, rows).T
    first, second = frames(direction)
    flat = np.cos(up)
    turned: Floats = (
        direction[rows.row] * (np.cos(side) * flat)[:, None]
        + first[rows.row] * (np.sin(side) * flat)[:, None]
        + second[rows.row] * np.sin(up)[:, None]
    )
    return turned


def moyal(rng: np.random.Generator, count: int) -> Floats:
    """Draw from Moyal's approximation of the Landau distribution, in widths from its mean."""
    normal = rng.standard_normal(count, dtype=np.float32)
    return np.minimum(-np.log(np.maximum(normal**2, 1e-12)) - MOYAL_MEAN, MOYAL_TAIL)


def isotropic(rng: np.random.Generator, count: int) -> Floats:
    """Draw unit vectors [count, 3] from all directions alike."""
    cosine = rng.uniform(-1, 1, count)
    azimuth = rng.uniform(0, 2 * np.pi, count)
    sine = np.sqrt(1 - cosine**2)
    return np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)
