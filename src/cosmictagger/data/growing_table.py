"""A table of an HDF5 file that grows as rows arrive."""

import h5py
import numpy as np
from isal import isal_zlib

from cosmictagger.data.layout import Records, TableLayout

CHUNKS_PER_FLUSH = 16


class GrowingTable:
    """Collects rows and writes them a chunk at a time, each chunk once.

    Chunks are compressed here, by isal, and stored as they are: HDF5 compresses the same chunk three times
    slower. `compression` is 0 (none) to 3; the file's readers see ordinary gzip.
    """

    def __init__(self, group: h5py.Group, layout: TableLayout, compression: int) -> None:
        filters = {"compression": "gzip", "compression_opts": compression} if compression else {}
        self._dataset = group.create_dataset(
            layout.name, (0,), layout.dtype, chunks=(layout.chunk,), maxshape=(None,), **filters
        )
        self._layout = layout
        self._compression = compression
        self._pending: list[Records] = []
        self._rows_pending = 0
        self._rows_written = 0

    def __len__(self) -> int:
        return self._rows_written + self._rows_pending

    def append(self, rows: Records) -> None:
        """Add records of the table's type, which the caller must not change any more."""
        self._pending.append(rows)
        self._rows_pending += len(rows)
        if self._rows_pending >= CHUNKS_PER_FLUSH * self._layout.chunk:
            self._write(self._rows_pending // self._layout.chunk)

    def finish(self) -> None:
        """Write what is left, the last chunk filled up with zeros."""
        self._write(-(-self._rows_pending // self._layout.chunk))

    def _write(self, chunks: int) -> None:
        rows = self._gather()
        length = self._layout.chunk
        end = min(chunks * length, len(rows))
        self._dataset.resize((self._rows_written + end,))
        for start in range(0, end, length):
            self._write_chunk(self._rows_written + start, rows[start : min(start + length, end)])
        self._rows_written += end
        self._rows_pending -= end
        self._pending = [rows[end:].copy()]

    def _gather(self) -> Records:
        # np.concatenate would drop the padding inside the records.
        rows = np.zeros(self._rows_pending, self._layout.dtype)
        start = 0
        for part in self._pending:
            rows[start : start + len(part)] = part
            start += len(part)
        return rows

    def _write_chunk(self, offset: int, rows: Records) -> None:
        data = rows.tobytes().ljust(self._layout.chunk * self._layout.dtype.itemsize, b"\0")
        if self._compression:
            data = isal_zlib.compress(data, self._compression)
        self._dataset.id.write_direct_chunk((offset,), data)
