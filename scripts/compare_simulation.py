#!/usr/bin/env python3
"""Compare simulated events with a reference file: pictures, histograms and medians as one HTML page.

python scripts/compare_simulation.py REFERENCE [--events 200] [--seed 0] [--output docs/comparison.html]
"""

import argparse
import sys
from pathlib import Path

from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.errors import UserError
from cosmictagger.reporting.comparison import write_comparison
from cosmictagger.reporting.console import Console
from cosmictagger.simulate.reader import SimulatedReader


def main() -> int:
    """Make the page and print the table of medians; the exit code is 1 where one lies outside the factor."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", help="larcv3 file of labelled events")
    parser.add_argument("--events", type=int, default=200, help="simulated events [200]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the simulation [0]")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/comparison.html"), help="page to write [docs/comparison.html]"
    )
    wanted = parser.parse_args()
    console = Console()
    try:
        return compare(wanted, console)
    except UserError as error:
        console.error(str(error))
        return 2


def compare(wanted: argparse.Namespace, console: Console) -> int:
    """Simulate, read the reference, write the page."""
    reference = Hdf5Reader(
        [wanted.reference],
        image_producer="sbndwire",
        label_producer="sbnd_cosmicseg",
        particle_producer="sbndneutrino",
    )
    simulated = SimulatedReader(wanted.events, wanted.seed, cache=True)
    command = f"python scripts/compare_simulation.py {Path(wanted.reference).name} --events {wanted.events} --seed {wanted.seed}"
    rows = write_comparison(wanted.output, simulated, reference, command=command)
    columns = ("median of", "class", "plane", "simulated", "reference", "ratio")
    cells = [
        (row.quantity, row.label, str(row.plane), f"{row.simulated:.1f}", f"{row.reference:.1f}", f"{row.ratio:.2f}")
        for row in rows
    ]
    console.table(f"{wanted.events} simulated events beside {wanted.reference}", columns, cells)
    console.result(f"Page: {wanted.output}")
    return int(not all(row.agrees for row in rows))


if __name__ == "__main__":
    sys.exit(main())
