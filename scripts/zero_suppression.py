#!/usr/bin/env python3
"""Show what `train --zero-suppression X` would leave out of the events of a file, for several X.

python scripts/zero_suppression.py FILE... [--downsample N] [--events N] [--thresholds X ...]
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.config.sections import DataConfig, TrainingConfig
from cosmictagger.data.batch import allocate, image_dtype, pack
from cosmictagger.data.open import Dataset, open_dataset
from cosmictagger.errors import UserError
from cosmictagger.metrics.confusion import CLASSES
from cosmictagger.models.sparse.tables import best_builder
from cosmictagger.reporting.console import Console
from cosmictagger.training.suppression import above_threshold, pixels_of


def main() -> int:
    """Count the pixels of each class, and print a line for each threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="+", help="larcv3 file with labels")
    parser.add_argument("--downsample", type=int, default=1, help="halvings of the images [1]")
    parser.add_argument("--events", type=int, default=100, help="events to look at, at most [100]")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[1, 2, 3, 4, 5, 6, 8, 10], metavar="X")
    wanted = parser.parse_args()
    console = Console()
    try:
        if wanted.events < 1:
            raise UserError(f"--events: {wanted.events} is too small; it must be at least 1.")
        for threshold in wanted.thresholds:
            TrainingConfig(zero_suppression=threshold)  # raises where it is none
        dataset = open_dataset(DataConfig(downsample=wanted.downsample), wanted.file)
        events, pixels, left_out = count(dataset, wanted.events, wanted.thresholds)
        if not pixels.any():
            raise UserError(f"'{wanted.file[0]}': its events have no pixels.")
    except UserError as error:
        console.error(str(error))
        return 2
    ticks, wires = dataset.layout.shape
    shares = ", ".join(
        f"{share:.1%} {name}"
        for share, name in zip(pixels / pixels.sum(), ("background", "cosmic", "neutrino"), strict=True)
    )
    console.result(f"{events} events at {ticks} × {wires}, {pixels.sum() / events:,.0f} pixels in each: {shares}")
    console.result("threshold   left out of all  background   cosmic  neutrino")
    for threshold, gone in zip(wanted.thresholds, left_out, strict=True):
        each = gone / np.maximum(pixels, 1)
        console.result(
            f"{threshold:9g}   {gone.sum() / pixels.sum():15.1%}  {each[0]:10.1%}  {each[1]:7.2%}  {each[2]:8.2%}"
        )
    return 0


def count(
    dataset: Dataset, events: int, thresholds: Sequence[float]
) -> tuple[int, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Count the pixels of some events by class, and those that each threshold leaves out [thresholds, 3]."""
    records = allocate(1, image_dtype(dataset.layout.planes, dataset.layout.max_voxels))
    events, builder = min(events, len(dataset.reader)), best_builder()
    total, left_out = np.zeros(CLASSES, np.int64), np.zeros((len(thresholds), CLASSES), np.int64)
    for entry in range(events):
        pack(dataset.reader.read(entry), records[0], "truncate")
        pixels = pixels_of(records)
        total += pixels.count_labels(pixels.used).sum(axis=(0, 1))
        for number, threshold in enumerate(thresholds):
            kept = above_threshold(pixels, dataset.layout.shape, threshold, builder)
            left_out[number] += pixels.count_labels(pixels.used & ~kept).sum(axis=(0, 1))
    return events, total, left_out


if __name__ == "__main__":
    sys.exit(main())
