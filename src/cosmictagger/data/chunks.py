"""Row ranges of HDF5 tables, cut straight out of the file.

HDF5 decodes chunks one after the other under a global lock. Here the places of the chunks are looked up once;
after that a read fetches and inflates just the chunks it needs, with the interpreter's lock released.
"""

import array
import itertools
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import h5py
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from cosmictagger.data.layout import Records
from cosmictagger.data.raw_file import RawFile
from cosmictagger.errors import UserError

_INFLATE_ERROR: type[Exception] = isal_zlib.IsalError  # type: ignore[assignment]  # isal declares an instance
NEAR = 65536  # bytes: what lies between chunks no further apart than this is read with them
_HDF5_LOCK = threading.Lock()  # one for all files: HDF5 itself is not safe for threads


class Rows(NamedTuple):
    """Some rows of a table, and the bytes of the file that they took. The records may be read-only."""

    records: Records
    stored_bytes: int


class Table(Protocol):
    """Random access to the rows of a table, from any number of threads."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> Rows:
        """Read the rows from `start` up to `stop`; UserError where the file is damaged."""


def open_table(dataset: h5py.Dataset, raw: RawFile) -> Table:
    """Choose the fastest way to read a one-dimensional table of the file `raw`.

    The table stays readable when the dataset's file object is closed.
    """
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if not dataset.file.userblock_size and not properties.get_external_count():
        if properties.get_layout() == h5py.h5d.CONTIGUOUS and dataset.id.get_offset() is not None:
            return PlainTable(dataset, raw)
        if properties.get_layout() == h5py.h5d.CHUNKED and filters in ([], [h5py.h5z.FILTER_DEFLATE]):
            return ChunkedTable(dataset, raw, deflated=bool(filters))
    return LockedTable(dataset)


class LockedTable:
    """Reads through HDF5, one thread at a time: for filters and layouts that the other tables do not know."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = h5py.File(dataset.file.filename, "r", locking=False)[dataset.name]
        self._length = len(dataset)

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Rows:
        """Read rows by slicing the dataset."""
        with _HDF5_LOCK:
            try:
                records: Records = self._dataset[start:stop]
            except OSError:
                raise _damaged(self._dataset.file.filename, self._dataset.name, start) from None
        return Rows(records, records.nbytes)


class PlainTable:
    """An uncompressed table in one piece."""

    def __init__(self, dataset: h5py.Dataset, raw: RawFile) -> None:
        self._raw, self._dtype, self._length = raw, dataset.dtype, len(dataset)
        self._names: tuple[str, str] = (dataset.file.filename, dataset.name)
        self._offset: int = dataset.id.get_offset()
        available = (len(raw) - self._offset) // self._dtype.itemsize
        if available < self._length:
            raise _damaged(*self._names, max(available, 0))

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Rows:
        """Read the bytes of the rows."""
        begin, end = (self._offset + row * self._dtype.itemsize for row in (start, stop))
        data = self._raw.read(begin, end)
        if len(data) < end - begin:  # cut short since it was opened
            raise _damaged(*self._names, start)
        records: Records = np.frombuffer(data, self._dtype)
        return Rows(records, records.nbytes)


class ChunkIndex(NamedTuple):
    """Where each chunk lies: its first byte (-1: never written), stored size, and whether it is deflated."""

    offset: npt.NDArray[np.int64]
    size: npt.NDArray[np.int64]
    deflated: npt.NDArray[np.bool_]

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut the chunks from `start` up to `stop` where the next one does not lie shortly behind."""
        begin, size = self.offset[start:stop], self.size[start:stop]
        gap = begin[1:] - (begin + size)[:-1]
        apart = (gap < 0) | (gap > NEAR) | (begin[1:] < 0) | (begin[:-1] < 0)
        cuts = [start, *(start + 1 + np.flatnonzero(apart)).tolist(), stop]
        return itertools.pairwise(cuts)


class ChunkedTable:
    """A chunked table, deflated or not; its chunks are looked up when the first row is read."""

    def __init__(self, dataset: h5py.Dataset, raw: RawFile, *, deflated: bool) -> None:
        self._file: str = dataset.file.filename
        self._name: str = dataset.name
        self._dtype = dataset.dtype
        self._length = len(dataset)
        self._chunk_rows: int = dataset.chunks[0]
        self._unwritten = np.full(self._chunk_rows, dataset.fillvalue, self._dtype).tobytes()
        self._raw = raw
        self._deflated = deflated
        self._index: ChunkIndex | None = None

    def __len__(self) -> int:
        return self._length

    def read(self, start: int, stop: int) -> Rows:
        """Inflate the chunks that hold the rows, and cut the rows out."""
        if start >= stop:
            return Rows(np.zeros(0, self._dtype), 0)
        index = self._chunk_index()
        first, last = start // self._chunk_rows, (stop - 1) // self._chunk_rows
        data = b"".join(self._chunks(index, first, last + 1))
        skipped = (start - first * self._chunk_rows) * self._dtype.itemsize
        records: Records = np.frombuffer(data, self._dtype, stop - start, skipped)
        return Rows(records, int(index.size[first : last + 1].sum()))

    def _chunks(self, index: ChunkIndex, start: int, stop: int) -> Iterator[bytes | memoryview]:
        for first, behind in index.runs(start, stop):
            begin = int(index.offset[first])
            if begin < 0:
                yield self._unwritten
                continue
            stored = memoryview(self._raw.read(begin, int(index.offset[behind - 1] + index.size[behind - 1])))
            for number in range(first, behind):
                at = int(index.offset[number]) - begin
                yield self._chunk(stored[at : at + int(index.size[number])], number, index.deflated[number])

    def _chunk(self, data: bytes | memoryview, number: int, deflated: bool) -> bytes | memoryview:
        if deflated:
            try:
                data = isal_zlib.decompress(data, bufsize=len(self._unwritten))
            except _INFLATE_ERROR:
                raise self._damaged(number) from None
        if len(data) != len(self._unwritten):
            raise self._damaged(number)
        return data

    def _chunk_index(self) -> ChunkIndex:
        if self._index is None:
            with _HDF5_LOCK:
                if self._index is None:
                    self._index = self._look_up()
        return self._index

    def _look_up(self) -> ChunkIndex:
        found = array.array("q")

        def note(chunk: Any) -> None:
            found.extend((chunk.chunk_offset[0], chunk.byte_offset, chunk.size, chunk.filter_mask))

        try:
            with h5py.File(self._file, "r", locking=False) as file:
                file[self._name].id.chunk_iter(note)
        except (OSError, RuntimeError):  # h5py raises either for a damaged index
            raise self._damaged(0) from None
        row, start, stored, mask = np.array(found).reshape(-1, 4).T
        count = -(-self._length // self._chunk_rows)
        index = ChunkIndex(np.full(count, -1), np.zeros(count, np.int64), np.zeros(count, np.bool_))
        number = row // self._chunk_rows
        index.offset[number], index.size[number] = start, stored
        index.deflated[number] = (mask == 0) & self._deflated
        return index

    def _damaged(self, chunk: int) -> UserError:
        return _damaged(self._file, self._name, chunk * self._chunk_rows)


def _damaged(file: str, name: str, row: int) -> UserError:
    return UserError(f"'{file}' is damaged or incomplete: cannot read '{name}' at row {row}; copy the file again.")
