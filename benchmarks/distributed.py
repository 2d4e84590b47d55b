"""What distribution costs: python benchmarks/distributed.py --file EVENTS.h5 [--options "..."] [--steps N].

Two tables, all measured in one run:

* training: one rank and two, one core each. *Strong*: two ranks share the images of one; *weak*: twice the images on two
  ranks, whose efficiency is (images/s on 2 ranks) / (2 × images/s on 1 rank).
* reading alone (iotest): one rank, and two with one and with two I/O groups.

Each rank is bound to one core, so that a second rank is a second core. Repeats are interleaved and medians are
printed, with the spread (largest over smallest) beside them.
"""

import argparse
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

PROJECT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


class Case(NamedTuple):
    """A run to be measured: a mode of the program on some ranks."""

    name: str
    mode: str
    ranks: int
    images: int  # a step, over all ranks
    options: tuple[str, ...] = ()


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="larcv3 file")
    parser.add_argument("--options", default="--preset a21 --sparse", help="network and data options of the program")
    parser.add_argument("--steps", type=int, default=20, help="steps of a run, two of them warm-up")
    parser.add_argument("--images", type=int, default=2, help="images a rank and step")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="where to write the numbers as well")
    given = parser.parse_args(words)
    measured: dict[str, list[dict[str, Any]]] = {}
    cases = training_cases(given.images) + reading_cases(given.images)
    for _ in range(given.repeats):
        for case in cases:
            measured.setdefault(case.name, []).append(run(case, given.file, given.steps, shlex.split(given.options)))
    report = training_table(measured, given.images) + reading_table(measured)
    sys.stdout.write("\n".join(report) + "\n")
    if given.json:
        given.json.write_text(json.dumps(measured, indent=1))


def training_cases(images: int) -> list[Case]:
    """List the trainings."""
    cases = [Case("1 rank", "train", 1, images)]
    modes = ["mpi", "ddp", *(["horovod"] if has_horovod() else [])]
    cases += [Case(f"2 ranks, {m}, weak", "train", 2, 2 * images, ("--distributed-mode", m)) for m in modes]
    cases += [Case(f"2 ranks, {m}, strong", "train", 2, images, ("--distributed-mode", m)) for m in modes]
    cases.append(Case("2 ranks, mpi in 16 bits, weak", "train", 2, 2 * images, ("--compress-gradients", "bfloat16")))
    cases.append(Case("2 ranks, mpi, 2 I/O groups, weak", "train", 2, 2 * images, ("--io-groups", "2")))
    return cases


def reading_cases(images: int) -> list[Case]:
    """List the runs of iotest."""
    return [
        Case("iotest, 1 rank", "iotest", 1, 2 * images),
        Case("iotest, 2 ranks, G = 1", "iotest", 2, 2 * images),
        Case("iotest, 2 ranks, G = 2", "iotest", 2, 2 * images, ("--io-groups", "2")),
    ]


def has_horovod() -> bool:
    """Say whether Horovod is installed, without importing it."""
    return subprocess.run([sys.executable, "-c", "import horovod.torch"], capture_output=True).returncode == 0


def run(case: Case, file: str, steps: int, options: list[str]) -> dict[str, Any]:
    """Run a case, each rank on a core of its own, and return its results.json."""
    with tempfile.TemporaryDirectory() as log:
        network = options if case.mode == "train" else []
        command = [
            *(str(BIN / "mpirun"), "-n", str(case.ranks), "-bind-to", "core", sys.executable, "bin/exec.py"),
            *(case.mode, "-d", "-f", file, "-ld", log, "-i", str(steps), "-mb", str(case.images)),
            *("--verbosity", "0", "--warmup-steps", "2", "-li", str(steps), "-si", str(steps)),
            *("--image-iteration", "0", "-ci", str(10 * steps), *network, *case.options),
        ]
        subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
        return dict(json.loads((Path(log) / "results.json").read_text()))


def training_table(measured: dict[str, list[dict[str, Any]]], images: int) -> list[str]:
    """Lay out the trainings."""
    base = rate(measured["1 rank"])
    lines = [f"Training, {images} images a rank (weak) or in all (strong), one core a rank"]
    lines.append(f"{'':36}{'images/s':>10}{'spread':>8}{'step, ms':>10}{'comm.':>8}{'I/O wait':>10}{'efficiency':>12}")
    for name, runs in measured.items():
        if name.startswith("iotest"):
            continue
        step = statistics.median(found["timing"]["step"]["median"] for found in runs)
        share = {clock: fraction(runs, clock) for clock in ("communication", "io_wait")}
        ranks = runs[0]["ranks"]
        lines.append(
            f"{name:36}{rate(runs):10.3f}{spread(runs):8.2f}{1e3 * step:10.1f}{share['communication']:8.1%}"
            f"{share['io_wait']:10.1%}{rate(runs) / (ranks * base):12.3f}"
        )
    return lines


def reading_table(measured: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Lay out the runs of iotest."""
    lines = ["", "Reading alone", f"{'':36}{'images/s':>10}{'spread':>8}{'scatter, ms a step':>20}"]
    for name, runs in measured.items():
        if name.startswith("iotest"):
            steps = runs[0]["config"]["run"]["iterations"]
            scatter = statistics.median(found["io"]["scatter_seconds"] for found in runs) / steps
            lines.append(f"{name:36}{rate(runs):10.1f}{spread(runs):8.2f}{1e3 * scatter:20.3f}")
    return lines


def rate(runs: list[dict[str, Any]]) -> float:
    """Return the median of the images a second."""
    return statistics.median(found["throughput"]["images_per_second"] for found in runs)


def spread(runs: list[dict[str, Any]]) -> float:
    """Return the largest over the smallest of the images a second."""
    rates = [found["throughput"]["images_per_second"] for found in runs]
    return max(rates) / min(rates)


def fraction(runs: list[dict[str, Any]], clock: str) -> float:
    """Return the share of the step that a clock takes, on the mean of the ranks."""
    return statistics.median(f["timing"][clock]["rank_mean"] / f["timing"]["step"]["rank_mean"] for f in runs)


if __name__ == "__main__":
    main()
