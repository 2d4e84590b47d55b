"""Row ranges of tables equal plain slicing, however the table is stored; damage is noticed."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmictagger.data.chunks import NEAR, ChunkedTable, ChunkIndex, LockedTable, PlainTable, Table, open_table
from cosmictagger.data.layout import VOXEL
from cosmictagger.data.raw_file import RawFile
from cosmictagger.errors import UserError

ROWS, CHUNK = 95, 10
RANGES = [(0, ROWS), (0, 0), (0, 1), (9, 11), (10, 20), (11, 19), (34, 71), (90, ROWS), (ROWS - 1, ROWS), (7, 7)]
STORAGE = {
    "gzip": ({"chunks": (CHUNK,), "compression": "gzip", "maxshape": (None,)}, ChunkedTable),
    "chunked": ({"chunks": (CHUNK,)}, ChunkedTable),
    "contiguous": ({}, PlainTable),
    "shuffled": ({"chunks": (CHUNK,), "compression": "gzip", "shuffle": True}, LockedTable),
    "lzf": ({"chunks": (CHUNK,), "compression": "lzf"}, LockedTable),
    "checksummed": ({"chunks": (CHUNK,), "compression": "gzip", "fletcher32": True}, LockedTable),
}


def voxels(count: int = ROWS) -> np.ndarray:
    rows = np.zeros(count, VOXEL)
    rows["id"], rows["value"] = np.arange(count) * 3, np.random.default_rng(0).random(count)
    return rows


def make(path: Path, storage: dict, rows: np.ndarray | None = None, **file_options) -> Path:
    with h5py.File(path, "w", **file_options) as file:
        file.create_dataset("voxels", data=voxels() if rows is None else rows, **storage)
    return path


def open_file(path: Path, name: str = "voxels") -> Table:
    raw = RawFile(path)
    with h5py.File(path, "r", locking=False) as file:
        return open_table(file[name], raw)


@pytest.mark.parametrize("kind", STORAGE)
def test_every_storage_gives_the_rows_that_slicing_gives(tmp_path, kind):
    storage, expected = STORAGE[kind]
    table = open_file(make(tmp_path / "a.h5", storage))
    assert type(table) is expected
    assert len(table) == ROWS
    for start, stop in RANGES:
        records = table.read(start, stop).records
        assert records.dtype == VOXEL
        assert records.tolist() == voxels()[start:stop].tolist()


def test_the_bytes_of_the_chunks_touched_are_counted(tmp_path):
    table = open_file(make(tmp_path / "a.h5", {"chunks": (CHUNK,)}))
    assert table.read(9, 11).stored_bytes == 2 * CHUNK * VOXEL.itemsize
    assert table.read(5, 5).stored_bytes == 0


def test_a_file_behind_a_user_block_is_read_through_hdf5(tmp_path):
    table = open_file(make(tmp_path / "a.h5", STORAGE["gzip"][0], userblock_size=512))
    assert isinstance(table, LockedTable)
    assert table.read(3, 50).records.tolist() == voxels()[3:50].tolist()


def test_chunks_that_were_never_written_hold_the_fill_value(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset(
            "voxels", (ROWS,), VOXEL, chunks=(CHUNK,), compression="gzip", fillvalue=np.array((7, 0.5), VOXEL)
        )
        data[20:30] = voxels()[20:30]
    records = open_file(tmp_path / "a.h5").read(15, 25).records
    assert records.tolist() == [(7, 0.5)] * 5 + voxels()[20:25].tolist()


def test_a_chunk_stored_without_compression_is_taken_as_it_is(tmp_path):
    path = make(tmp_path / "a.h5", STORAGE["gzip"][0])
    with h5py.File(path, "r+") as file:
        file["voxels"].id.write_direct_chunk((10,), voxels()[40:50].tobytes(), filter_mask=1)
    assert open_file(path).read(8, 22).records.tolist() == voxels()[[8, 9, *range(40, 50), 20, 21]].tolist()


def test_an_empty_table_has_no_rows(tmp_path):
    table = open_file(make(tmp_path / "a.h5", STORAGE["gzip"][0], rows=voxels(0)))
    assert len(table) == len(table.read(0, 0).records) == 0


@pytest.mark.parametrize("stored", [b"not deflated at all", b"\x78"])
def test_a_chunk_that_does_not_inflate_is_named(tmp_path, stored):
    path = make(tmp_path / "a.h5", STORAGE["gzip"][0])
    with h5py.File(path, "r+") as file:
        file["voxels"].id.write_direct_chunk((30,), stored)
    table = open_file(path)
    assert len(table.read(0, 30).records) == 30
    with pytest.raises(UserError, match=r"a\.h5' is damaged or incomplete: cannot read '/voxels' at row 30; copy"):
        table.read(25, 35)


def test_a_chunk_of_the_wrong_length_is_damage(tmp_path):
    path = make(tmp_path / "a.h5", {"chunks": (CHUNK,)})
    with h5py.File(path, "r+") as file:
        rows = np.tile(voxels(), 2)
        file.create_dataset("longer", data=rows, chunks=(2 * CHUNK,), compression="gzip")
        stored = file["longer"].id.read_direct_chunk((0,))[1]
        file.create_dataset("wrong", data=voxels(), chunks=(CHUNK,), compression="gzip")
        file["wrong"].id.write_direct_chunk((0,), stored)
    with pytest.raises(UserError, match="cannot read '/wrong' at row 0"):
        open_file(path, "wrong").read(0, 5)


def test_a_shuffled_chunk_that_does_not_inflate_is_damage(tmp_path):
    path = make(tmp_path / "a.h5", STORAGE["shuffled"][0])
    with h5py.File(path, "r+") as file:
        file["voxels"].id.write_direct_chunk((0,), b"not deflated at all")
    with pytest.raises(UserError, match="cannot read '/voxels' at row 2"):
        open_file(path).read(2, 5)


@pytest.mark.parametrize("kind", ["gzip", "chunked", "contiguous"])
def test_rows_beyond_the_end_of_the_file_are_damage(tmp_path, kind):
    path = make(tmp_path / "a.h5", STORAGE[kind][0])
    cut = tmp_path / "cut.h5"
    cut.write_bytes(path.read_bytes()[:2100])
    with h5py.File(path, "r", locking=False) as file, pytest.raises(UserError, match="is damaged or incomplete"):
        open_table(file["voxels"], RawFile(cut)).read(0, ROWS)


@pytest.mark.parametrize("kind", ["gzip", "chunked", "contiguous"])
def test_a_file_that_is_cut_short_while_it_is_open_is_damage(tmp_path, kind):
    path = make(tmp_path / "a.h5", STORAGE[kind][0])
    table = open_file(path)
    table.read(0, 1)
    os.truncate(path, 2100)
    with pytest.raises(UserError, match="is damaged or incomplete"):
        table.read(ROWS - 5, ROWS)


def test_chunks_near_each_other_are_read_together():
    offset = np.array([100, 300, 320 + NEAR, 351 + 2 * NEAR, -1, -1, 50, 55])
    index = ChunkIndex(offset, np.array([200, 20, 30, 40, 0, 0, 5, 5]), np.ones(8, bool))
    assert list(index.runs(0, 8)) == [(0, 3), (3, 4), (4, 5), (5, 6), (6, 8)]
    assert list(index.runs(1, 3)) == [(1, 3)]


@pytest.mark.parametrize("kind", ["gzip", "chunked", "contiguous"])
def test_no_byte_is_read_that_is_not_needed(tmp_path, monkeypatch, kind):
    path = make(tmp_path / "a.h5", STORAGE[kind][0])
    reads = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, *place: reads.append(place) or pread(descriptor, *place))
    stored = open_file(path).read(11, 31).stored_bytes
    ((size, start),) = reads
    assert size == stored
    with h5py.File(path) as file:
        dataset = file["voxels"].id
        begin = dataset.get_offset() if kind == "contiguous" else dataset.get_chunk_info_by_coord((CHUNK,)).byte_offset
    assert start == begin + (11 * VOXEL.itemsize if kind == "contiguous" else 0)
