"""Speed of the detector simulation: images a second at full resolution, made and written, by number of workers.

    python benchmarks/simulate.py [events]

`made` is one process that simulates and throws away, `written` the larcv3 file of `bin/exec.py simulate`. The peak
memory is that of `bin/exec.py simulate` as a process of its own, with one worker, for a number of events and four
times as many.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import simulate_event
from cosmictagger.simulate.files import Simulation, simulate_file
from cosmictagger.simulate.neutrino import Mix
from cosmictagger.simulate.response import Canvas

EVENTS = 200
WARM_UP = 5
WORKERS = (1, 2)
PROGRAM = Path(__file__).resolve().parents[1] / "bin" / "exec.py"


def made(events: int) -> float:
    """Time the simulation alone, in images a second."""
    detector, mix = Detector(), Mix()
    canvas = Canvas(detector.shape)
    for number in range(WARM_UP):
        simulate_event(detector, mix, 1, number, canvas)
    start = time.perf_counter()
    for number in range(events):
        simulate_event(detector, mix, 0, number, canvas)
    return events / (time.perf_counter() - start)


def written(events: int, workers: int) -> float:
    """Time a file from the first event in it to the last, in images a second: process start-up is left out."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "events.h5"
        simulate_file(
            path, events, Simulation(), workers=workers, progress=lambda done: times.append(time.perf_counter())
        )
    return (events - 1) / (times[-1] - times[0])


def peak_memory(events: int) -> float:
    """Return the largest resident memory of a simulation that writes a file, in MB."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "events.h5"
        words = ("simulate", "--events", str(events), "--workers", "1", "--output", str(output))
        child = subprocess.Popen([sys.executable, str(PROGRAM), *words], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"simulating {events} events failed")
    return used.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print the table."""
    events = int(sys.argv[1]) if len(sys.argv) > 1 else EVENTS
    load = os.getloadavg()[0]
    sys.stdout.write(f"{events} events, {os.cpu_count()} cores, load before {load:.1f}\n")
    sys.stdout.write(f"{'':24}images/s\n{'made, 1 process':24}{made(events):8.1f}\n")
    for workers in WORKERS:
        sys.stdout.write(f"{f'written, {workers} worker(s)':24}{written(events, workers):8.1f}\n")
    sys.stdout.write(f"{'':24}peak MB\n")
    for many in (events, 4 * events):
        sys.stdout.write(f"{f'written, {many} events':24}{peak_memory(many):8.0f}\n")


if __name__ == "__main__":
    main()
