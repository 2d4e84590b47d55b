"""Counts of the readers, over all ranks."""

import numpy as np

from cosmictagger.data.loader import LoaderCounts
from cosmictagger.distributed.communicator import Communicator

SUMMED = ("images", "pixels", "truncated_pixels", "truncated_images", "empty_planes", "empty_images")


def total_counts(communicator: Communicator, counts: LoaderCounts) -> LoaderCounts:
    """Add up what all ranks have read; the wait is the longest of any, `first_empty` the lowest entry."""
    sums = communicator.sum(np.array([getattr(counts, name) for name in SUMMED], np.float64))
    first = communicator.minimum(np.array([np.inf if counts.first_empty is None else counts.first_empty]))[0]
    wait = communicator.maximum(np.array([counts.wait_seconds]))[0]
    return LoaderCounts(
        **{name: int(value) for name, value in zip(SUMMED, sums, strict=True)},
        first_empty=int(first) if np.isfinite(first) else None,
        wait_seconds=float(wait),
    )
