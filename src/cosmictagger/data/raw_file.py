"""Bytes of a file by place."""

import os
import weakref
from pathlib import Path

from cosmictagger.errors import UserError


class RawFile:
    """Random access to the bytes of a file, from any number of threads.

    Plain reads of all that is needed at a place, and not a file mapped into memory: of that the system fetches up to
    megabytes around each place that is touched (the device's read-ahead), and training touches places at random;
    benchmarks/reading.py measures it. Raises OSError as opening a file does.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self._size = os.fstat(self._descriptor).st_size

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
