"""Files mapped into memory, read from the disk where they will be used and nowhere else.

Events are read in random order. Left to itself, the system takes each touch of a mapped file for the start of a long read
and fetches up to megabytes around it (the device's read-ahead), most of which nobody wants.
"""

import mmap
from pathlib import Path

# Not on every system (Windows); without it a mapped file is read as the system thinks best.
_ADVICE = hasattr(mmap, "MADV_RANDOM") and hasattr(mmap, "MADV_WILLNEED")


def map_file(path: Path) -> memoryview:
    """Map a file into memory, to be read; raise OSError as opening it does, ValueError where it is empty."""
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if _ADVICE:
        mapping.madvise(mmap.MADV_RANDOM)
    return memoryview(mapping)


def will_read(mapped: memoryview, start: int, stop: int) -> None:
    """Have the bytes from `start` up to `stop` of a mapped file fetched in one go, if they are not in memory."""
    stop = min(stop, len(mapped))
    if _ADVICE and isinstance(mapped.obj, mmap.mmap) and 0 <= start < stop:
        page = start - start % mmap.PAGESIZE
        mapped.obj.madvise(mmap.MADV_WILLNEED, page, stop - page)
