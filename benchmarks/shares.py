"""How equally are pixels shared? python benchmarks/shares.py --file EVENTS.h5 [--steps N]

The pixels of the fullest rank against the mean over ranks, for steps of shuffled events: in the order of the sampler, and
shared by size as `-d` shares them. Averages over the steps. Nothing is read but the tables of the file.
"""

import argparse
import sys

import numpy as np

from cosmictagger.config.sections import DataConfig
from cosmictagger.data.open import open_dataset
from cosmictagger.data.sampler import ShuffledSampler
from cosmictagger.distributed.shares import ShareSampler

CASES = ((2, 2), (2, 4), (8, 4), (64, 2), (64, 4), (1024, 4))  # ranks, images of each


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", nargs="+", required=True, help="larcv3 files")
    parser.add_argument("--steps", type=int, default=100)
    given = parser.parse_args()
    sizes = open_dataset(DataConfig(file=tuple(given.file)), given.file).reader.sizes()
    sys.stdout.write(f"{len(sizes)} events of {sizes.mean():.0f} pixels ± {100 * sizes.std() / sizes.mean():.0f} %\n")
    sys.stdout.write(f"{'ranks':>6} {'images of each':>15} {'in order':>9} {'by size':>8}\n")
    for ranks, images in CASES:
        columns = []
        for known in (None, sizes):
            shares = ShareSampler(ShuffledSampler(len(sizes), ranks * images, seed=0), ranks, range(ranks), known)
            loads = np.array([sizes[shares.entries(n)].reshape(ranks, images).sum(axis=1) for n in range(given.steps)])
            columns.append(float((loads.max(axis=1) / loads.mean(axis=1)).mean()))
        sys.stdout.write(f"{ranks:6} {images:15} {columns[0]:9.2f} {columns[1]:8.2f}\n")


if __name__ == "__main__":
    main()
