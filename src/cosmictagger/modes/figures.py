"""The figures of a run over all of its ranks."""

import numpy as np

from cosmictagger.data.loader import LoaderCounts
from cosmictagger.data.open import Dataset
from cosmictagger.distributed.communicator import Communicator, Feed, Vector
from cosmictagger.distributed.totals import total_counts
from cosmictagger.modes.session import Session
from cosmictagger.reporting.clocks import MATRIX_COLUMNS, Clocks, wait_fraction
from cosmictagger.reporting.results import InputOutput

# What a rank spends in these it spends waiting, for files or for the other ranks.
WAITING = ("io_wait", "communication")


def gather_figures(session: Session, clocks: Clocks, dataset: Dataset, feed: Feed) -> LoaderCounts:
    """Fill in timing, throughput and I/O of all ranks together, and return what they have read in all.

    All ranks call this together, after the same number of steps.
    """
    communicator, findings = session.distribution.communicator, session.findings
    matrix = clocks.to_matrix()
    slowest = communicator.maximum(matrix)
    totals = matrix.sum(axis=0)
    spread = (communicator.minimum(totals), communicator.sum(totals) / communicator.size)
    findings.timing = clocks.summary(slowest, rank_totals=spread)
    findings.throughput = clocks.throughput(
        ranks=communicator.size, seconds=float(slowest[:, -1].sum()), rank_rates=_rates(communicator, totals)
    )
    counts = total_counts(communicator, feed.counts)
    read = communicator.sum(np.array([dataset.reader.bytes_read, dataset.reader.unmatched_labels], np.float64))
    findings.io = InputOutput(
        bytes_read=int(read[0]),
        images_per_second=findings.throughput.images_per_second,
        wait_fraction=wait_fraction(findings.timing),
        truncated_pixels=counts.truncated_pixels,
        unmatched_labels=int(read[1]),
        scatter_seconds=float(communicator.maximum(np.array([feed.scatter_seconds]))[0]),
    )
    return counts


def _rates(communicator: Communicator, totals: Vector) -> list[float] | None:
    """Return how many steps a second each rank would do if it had to wait for nothing; None for one rank."""
    busy = totals[-1] - sum(totals[MATRIX_COLUMNS.index(name)] for name in WAITING)
    seconds = np.zeros(communicator.size)
    seconds[communicator.rank] = busy
    of_all = communicator.sum(seconds)
    return None if communicator.size == 1 or (of_all <= 0).any() else (1 / of_all).tolist()
