"""Does it pay to unpack the next batch in a thread? python benchmarks/unpacking.py --file EVENTS.h5 [options]

Trainings of the same steps, in turn (`unpacked`) and ahead (`prefetched`), interleaved, each a process of its own; the
median step of each, and the ratio in turn / ahead of each pair with its range: above 1 where the thread pays.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
NETWORK = "--sparse --n-initial-filters 8 --res-blocks-deepest-layer 2 --res-blocks-final 1 --bottleneck-size 64"
# Whatever the program would choose here, it takes what is named.
FORCED = """
import sys
from cosmictagger.modes import build
from cosmictagger.training import prefetch
build.best_unpacking = lambda spare_core: getattr(prefetch, sys.argv[1])
from cosmictagger.cli import main
sys.exit(main(sys.argv[2:]))
"""


def median_step(name: str, given: argparse.Namespace) -> float:
    """Run a training and return its median step in milliseconds."""
    with tempfile.TemporaryDirectory() as log:
        words = f"train -f {given.file} -ld {log} -i {given.steps} -mb {given.images} {NETWORK} --precision mixed"
        quiet = f"--verbosity 0 --image-iteration 0 -li {given.steps} -si {given.steps} -ci {given.steps}"
        threads = ["--intra-op-parallelism-threads", str(given.threads)] if given.threads else []
        command = [sys.executable, "-c", FORCED, name, *words.split(), *quiet.split(), *threads]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=PROJECT)
        found = json.loads((Path(log) / "results.json").read_text())
    return 1e3 * float(found["timing"]["step"]["median"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="larcv3 file")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--images", type=int, default=4, help="images a step")
    parser.add_argument("--threads", type=int, help="threads that compute [all cores]")
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    given.file = Path(given.file).resolve()
    pairs = [(median_step("unpacked", given), median_step("prefetched", given)) for _ in range(given.rounds)]
    for name, times in zip(("in turn", "ahead"), zip(*pairs, strict=True), strict=True):
        sys.stdout.write(f"{name:8} {statistics.median(times):7.1f} ms [{min(times):.1f}–{max(times):.1f}]\n")
    ratios = [turn / ahead for turn, ahead in pairs]
    sys.stdout.write(f"ratio    {statistics.median(ratios):7.3f} [{min(ratios):.3f}–{max(ratios):.3f}]\n")


if __name__ == "__main__":
    main()
