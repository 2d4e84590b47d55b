"""The bytes of a file, and what can go wrong with them."""

import errno
import gc
import os
from pathlib import Path

import pytest

from cosmictagger.data.raw_file import RawFile
from cosmictagger.errors import UserError

CONTENT = bytes(range(256)) * 20


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(CONTENT)
    return file


@pytest.mark.parametrize("piece", [(0, 5), (7, 5120), (5119, 5120), (5, 5), (6, 5), (5000, 9999), (9999, 10**18)])
def test_pieces_are_those_of_the_content(path, piece):
    start, stop = piece
    raw = RawFile(path)
    assert len(raw) == len(CONTENT)
    assert raw.read(start, stop) == CONTENT[start:stop]


def test_what_comes_in_parts_is_put_together(path, monkeypatch):
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda descriptor, size, start: pread(descriptor, min(size, 100), start))
    assert RawFile(path).read(3, 1000) == CONTENT[3:1000]


def test_a_file_that_was_cut_short_ends_where_it_ends(path):
    raw = RawFile(path)
    os.truncate(path, 50)
    assert raw.read(40, 100) == CONTENT[40:50]


def test_a_disk_that_fails_is_a_sentence(path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(UserError, match="Cannot read '.*a': Input/output error"):
        RawFile(path).read(0, 1)


def test_the_descriptor_is_closed_with_the_last_reference(path):
    def opened():
        places = Path("/proc/self/fd").iterdir()
        return sum(place.is_symlink() and place.readlink() == path for place in places)

    raw = RawFile(path)
    assert opened() == 1
    del raw
    gc.collect()
    assert opened() == 0
