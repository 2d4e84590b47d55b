"""How fast events come from a file. python benchmarks/reading.py --file EVENTS.h5 [options]

Images and labels of the same events at full resolution, in shuffled and in sequential order, from a cold file (its pages
dropped from memory before each reading) and a warm one, by this project's reader and by plain h5py slicing of the same
tables, one thread; larcv where it is installed. Milliseconds an event, megabytes from the disk for each, and how many
times as long the others take, with the range over rounds.

Opening a file does not count, nor what a reader learns there for good: here the places of all chunks, while HDF5 (in h5py
and larcv) looks up each when it needs it. larcv never closes its files, so that some of its later readings find more in
memory. On Linux.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py

from cosmictagger.data.events import EventReader
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.larcv_reader import LarcvReader
from cosmictagger.errors import UserError

IMAGE, LABEL = "sbndwire", "sbnd_cosmicseg"
Read = Callable[[int], int]  # entry -> pixels of its images


def own(path: str) -> Read:
    """Read by this project."""
    return counted(Hdf5Reader([path], image_producer=IMAGE, label_producer=LABEL))


def larcv(path: str) -> Read:
    """Read by the larcv library."""
    return counted(LarcvReader([path], image_producer=IMAGE, label_producer=LABEL))


def counted(reader: EventReader) -> Read:
    """Count the pixels that a reader gives."""
    return lambda entry: sum(len(plane.index) for plane in reader.read(entry).planes)


def plain(path: str) -> Read:
    """Slice the tables with h5py: voxels of all planes, of images and labels."""
    data = h5py.File(path, "r", locking=False)["Data"]
    groups = [data[f"sparse2d_{producer}_group"] for producer in (IMAGE, LABEL)]

    def read(entry: int) -> int:
        pixels = []
        for group in groups:
            first, count = group["extents"][entry]
            extents = group["voxel_extents"][int(first) : int(first + count)]
            start = int(extents["first"].min())
            pixels.append(len(group["voxels"][start : start + int(extents["N"].sum())]))
        return pixels[0]

    return read


def drop(path: str) -> None:
    """Forget the pages of a file that are in memory."""
    with Path(path).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def from_disk() -> int:
    """Bytes that this process had fetched from disks."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(lines["read_bytes"])


def measure(maker: Callable[[str], Read], path: str, entries: Sequence[int], *, cold: bool) -> tuple[float, float, int]:
    """Milliseconds and megabytes from the disk for each entry, and the pixels of all."""
    if cold:
        drop(path)  # before it is opened: pages that someone has mapped would stay
    read = maker(path)
    read(0)
    if not cold:
        for entry in entries:
            read(entry)
    bytes_before, start = from_disk(), time.perf_counter()
    pixels = sum(read(entry) for entry in entries)
    seconds = time.perf_counter() - start
    return 1e3 * seconds / len(entries), (from_disk() - bytes_before) / 1e6 / len(entries), pixels


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", required=True, help="larcv3 file, of some thousand events for the cold readings")
    parser.add_argument("--events", type=int, default=100, help="read in each round")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    with h5py.File(given.file, "r", locking=False) as file:
        length = len(file["Events/event_id"])
    makers = [own, plain]
    try:
        larcv(given.file)
        makers.append(larcv)
    except UserError as error:
        sys.stdout.write(f"larcv: {error}\n")
    draw = random.Random(0)
    for order in ("shuffled", "sequential"):
        for state in ("cold", "warm"):
            found: dict[str, list[tuple[float, float, int]]] = {maker.__name__: [] for maker in makers}
            for _ in range(given.rounds):
                start = draw.randrange(max(length - given.events, 0) + 1)
                entries = list(range(start, min(start + given.events, length)))
                if order == "shuffled":
                    entries = draw.sample(range(length), len(entries))
                for maker in makers:
                    found[maker.__name__].append(measure(maker, given.file, entries, cold=state == "cold"))
            report(f"{order}, {state}", found)


def report(title: str, found: dict[str, list[tuple[float, float, int]]]) -> None:
    """Print a line for each reader, once it is sure that all have read the same pixels."""
    for name, rounds in found.items():
        times, megabytes, pixels = zip(*rounds, strict=True)
        if pixels != tuple(count for *_, count in found["own"]):
            sys.exit(f"{name} has read other pixels than own: {pixels}")
        ratios = [other / ours for (ours, *_), other in zip(found["own"], times, strict=True)]
        disk = statistics.median(megabytes)
        sys.stdout.write(f"{title:17} {name:6} {spread(times)} ms  {disk:6.2f} MB  x {spread(ratios)}\n")
        sys.stdout.flush()


def spread(values: Sequence[float]) -> str:
    """Median, and the range in brackets."""
    return f"{statistics.median(values):6.2f} [{min(values):.2f}-{max(values):.2f}]"


if __name__ == "__main__":
    main()
