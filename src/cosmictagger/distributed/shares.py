"""Who gets which images of a step."""

import numpy as np

from cosmictagger.data.batch import PADDING
from cosmictagger.data.sampler import Entries, Sampler
from cosmictagger.errors import UserError


class ShareSampler:
    """The entries of some neighbouring ranks, where each of `ranks` ranks gets an equal share of every step.

    Rank r has the entries from r × share on; where ranks do not divide the step, the last are padding.
    """

    def __init__(self, sampler: Sampler, ranks: int, members: range) -> None:
        self._sampler, self._ranks, self._members = sampler, ranks, members
        self.share = -(-sampler.images_per_step // ranks)
        self.images_per_step = self.share * len(members)

    def entries(self, step: int) -> Entries:
        """Name the entries of a step."""
        everything = np.full(self.share * self._ranks, PADDING, np.int64)
        everything[: self._sampler.images_per_step] = self._sampler.entries(step)
        return everything[self.share * self._members.start : self.share * self._members.stop]


def equal_share(images: int, ranks: int) -> int:
    """Return how many of the images of a step each rank gets; raise UserError where they differ."""
    share, rest = divmod(images, ranks)
    if rest:
        nearest = " or ".join(str(n * ranks) for n in (share, share + 1) if n)
        raise UserError(f"--minibatch-size: {images} images cannot be shared equally by {ranks} ranks; take {nearest}.")
    return share


def group_of(rank: int, ranks: int, groups: int) -> int:
    """Number the group of a rank: neighbours together, sizes that differ by one at most."""
    return rank * groups // ranks
