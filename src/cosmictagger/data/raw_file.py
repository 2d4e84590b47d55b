"""Bytes of a file by place: read from the disk where they are asked for and nowhere else."""

import os
import weakref
from pathlib import Path

from cosmictagger.errors import UserError


class RawFile:
    """Random access to the bytes of a file, from any number of threads.

    Events are read in random order. Left to itself the system takes some reads for the start of a long one and fetches up
    to megabytes behind them (the device's read-ahead), which nobody wants; where it takes advice, it is told not to.
    Raises OSError as opening a file does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def __len__(self) -> int:
        return self._size

    def read(self, start: int, stop: int) -> bytes:
        """Read the bytes from `start` up to `stop`, or to the end of the file; UserError where the disk fails."""
        stop = min(stop, self._size)
        parts = []
        while start < stop:
            try:
                part = os.pread(self._descriptor, stop - start, start)
            except OSError as error:
                raise UserError(f"Cannot read '{self._path}': {error.strerror}.") from None
            if not part:  # cut short since it was opened
                break
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
