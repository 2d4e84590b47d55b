"""Which entries make up which step: known to every rank, and restartable at any step."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from cosmictagger.data.batch import PADDING
from cosmictagger.errors import UserError

Entries = npt.NDArray[np.int64]


class Sampler(Protocol):
    """A function from step number to the entries of that step."""

    @property
    def images_per_step(self) -> int:
        """Entries named for each step, padding included."""

    def entries(self, step: int) -> Entries:
        """Name the entries of a step (int64, [images_per_step]); PADDING where there are no more."""


class ShuffledSampler:
    """Endless epochs, each a new permutation of all entries; steps run on across the end of an epoch.

    Every entry is used exactly once an epoch, whatever the number of images in a step. The permutation of
    an epoch depends on the seed and the epoch alone.
    """

    def __init__(self, length: int, images_per_step: int, seed: int) -> None:
        self.length, self.images_per_step, self.seed = _positive(length), images_per_step, seed
        self._permutations: dict[int, Entries] = {}

    def entries(self, step: int) -> Entries:
        """Name the entries of a step."""
        positions = np.arange(step * self.images_per_step, (step + 1) * self.images_per_step)
        epochs, offsets = np.divmod(positions, self.length)
        result = np.empty(self.images_per_step, np.int64)
        for epoch in np.unique(epochs):
            chosen = epochs == epoch
            result[chosen] = self._permutation(int(epoch))[offsets[chosen]]
        return result

    def _permutation(self, epoch: int) -> Entries:
        if epoch not in self._permutations:
            self._permutations = {k: v for k, v in self._permutations.items() if k >= epoch - 1}
            self._permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.length)
        return self._permutations[epoch]


class SerialSampler:
    """Every entry once, in order; the last step is filled up with padding."""

    def __init__(self, length: int, images_per_step: int) -> None:
        self.length, self.images_per_step = _positive(length), images_per_step

    def __len__(self) -> int:
        """Steps that it takes to see every entry."""
        return -(-self.length // self.images_per_step)

    def entries(self, step: int) -> Entries:
        """Name the entries of a step."""
        first = step * self.images_per_step
        result = np.arange(first, first + self.images_per_step, dtype=np.int64)
        result[result >= self.length] = PADDING
        return result


def _positive(length: int) -> int:
    if length < 1:
        raise UserError("The files hold no events; there is nothing to sample.")
    return length
