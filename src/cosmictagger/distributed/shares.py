"""Who gets which images of a step."""

import numpy as np

from cosmictagger.data.batch import PADDING
from cosmictagger.data.sampler import Entries, Sampler
from cosmictagger.errors import UserError


class ShareSampler:
    """The entries of some neighbouring ranks, where each of `ranks` ranks gets an equal share of every step.

    Rank r has the entries from r × share on; where ranks do not divide the step, the last are padding. With the `sizes`
    of all entries the shares have about equally many pixels: a sparse step takes as long as that of its fullest rank.
    """

    def __init__(self, sampler: Sampler, ranks: int, members: range, sizes: Entries | None = None) -> None:
        self._sampler, self._ranks, self._members, self._sizes = sampler, ranks, members, sizes
        self.share = -(-sampler.images_per_step // ranks)
        self.images_per_step = self.share * len(members)

    def entries(self, step: int) -> Entries:
        """Name the entries of a step."""
        everything = np.full(self.share * self._ranks, PADDING, np.int64)
        everything[: self._sampler.images_per_step] = self._sampler.entries(step)
        if self._sizes is not None and self.share > 1:
            everything = balanced(everything, np.where(everything == PADDING, 0, self._sizes[everything]), self._ranks)
        return everything[self.share * self._members.start : self.share * self._members.stop]


def balanced(entries: Entries, sizes: Entries, ranks: int) -> Entries:
    """Order entries so that the parts of all ranks, equally long, have about equal sums of sizes.

    The largest entry goes to each rank first, then of the next largest the first to the rank with least, and so on.
    """
    order = np.argsort(-sizes, kind="stable").reshape(-1, ranks)
    parts = np.empty((ranks, len(order)), np.int64)
    load = np.zeros(ranks, np.int64)
    for number, chosen in enumerate(order):
        least = np.argsort(load, kind="stable")
        parts[least, number] = entries[chosen]
        load[least] += sizes[chosen]
    return parts.reshape(-1)


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
