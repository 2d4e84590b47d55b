#!/usr/bin/env python3
"""Make a small checkpoint of a training: parameters, without the state of the optimizer.

For inference, or for another training to start from (--weights-location).

python scripts/export_checkpoint.py LOG_DIRECTORY OUTPUT.pt [--by-image] [--exchange-levels N]
    [--crossing-levels N ...] [--crossing-offset X] [--doubled-levels N] [--supervised-levels N ...] [--zero-suppression X]
"""

import argparse
import sys
from pathlib import Path

from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console
from cosmictagger.training import checkpoints, growing


def main() -> int:
    """Read the latest checkpoint and write the small one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="log directory of a training, or a checkpoint")
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument(
        "--by-image",
        action="store_true",
        help="normalize by the statistics of each image: for networks of --norm-statistics batch that were trained with "
        "one image on each rank, to which both are the same in training",
    )
    parser.add_argument(
        "--exchange-levels",
        type=int,
        metavar="N",
        help="let a network that was trained without the option of that name go on with it: train --weights-location "
        "OUTPUT.pt --exchange-levels N",
    )
    parser.add_argument("--crossing-levels", type=int, nargs="+", metavar="N", help="the same for that option")
    parser.add_argument("--crossing-offset", type=float, metavar="X", help="for --crossing-levels [that of SBND]")
    parser.add_argument("--doubled-levels", type=int, metavar="N", help="the same for that option")
    parser.add_argument("--supervised-levels", type=int, nargs="+", metavar="N", help="the same for that option")
    parser.add_argument(
        "--zero-suppression",
        type=float,
        metavar="X",
        help="let a network that was trained with another value of the option of that name, or without it, go on with it: "
        "it must be trained on, as it is used to other pixels",
    )
    wanted = parser.parse_args()
    console = Console()
    try:
        path = checkpoints.find(wanted.source)
        wanted.output.parent.mkdir(parents=True, exist_ok=True)
        checkpoint = checkpoints.load(path)
        if wanted.by_image and (images := checkpoint.sampler["images_per_step"]) > 1:
            console.warning(
                f"{images} images a step: by image is right where they were on {images} ranks or micro-steps."
            )
        if wanted.by_image:
            checkpoint = growing.by_image(checkpoint)
        if wanted.exchange_levels is not None:
            checkpoint = growing.grown(checkpoint, "exchange_levels", wanted.exchange_levels)
        if wanted.crossing_levels is not None:
            checkpoint = growing.grown(
                checkpoint, "crossing_levels", tuple(wanted.crossing_levels), wanted.crossing_offset
            )
        if wanted.doubled_levels is not None:
            checkpoint = growing.grown(checkpoint, "doubled_levels", wanted.doubled_levels)
        if wanted.supervised_levels is not None:
            checkpoint = growing.grown(checkpoint, "supervised_levels", tuple(wanted.supervised_levels))
        if wanted.zero_suppression is not None:
            checkpoint = growing.with_suppression(checkpoint, wanted.zero_suppression)
        checkpoints.export(checkpoint, wanted.output)
    except UserError as error:
        console.error(str(error))
        return 2
    console.result(f"{path} -> {wanted.output} ({wanted.output.stat().st_size / 1e6:.2f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
