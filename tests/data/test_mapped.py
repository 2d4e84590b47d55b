"""What a mapped file holds, and what the system is told of it."""

import mmap

import pytest

from cosmictagger.data.mapped import map_file, will_read

PAGE = mmap.PAGESIZE


class Listening(mmap.mmap):
    def madvise(self, *advice):
        super().madvise(*advice)
        HEARD.append(advice)


HEARD: list[tuple[int, ...]] = []


@pytest.fixture
def heard():
    HEARD.clear()
    return HEARD


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(bytes(range(256)) * (PAGE // 64))
    return file


def test_a_mapped_file_is_its_bytes(path):
    assert bytes(map_file(path)) == path.read_bytes()


@pytest.mark.skipif(not hasattr(mmap, "MADV_WILLNEED"), reason="the system takes no advice")
def test_whole_pages_within_the_file_are_announced(path, heard):
    with path.open("rb") as file:
        mapped = memoryview(Listening(file.fileno(), 0, access=mmap.ACCESS_READ))
    will_read(mapped, PAGE + 7, PAGE + 9)
    will_read(mapped, 2 * PAGE, 99 * PAGE)
    assert heard == [(mmap.MADV_WILLNEED, PAGE, 9), (mmap.MADV_WILLNEED, 2 * PAGE, 2 * PAGE)]


@pytest.mark.parametrize("piece", [(-1, -1), (-1, 5), (3, 3), (5, 2), (99 * PAGE, 100 * PAGE)])
def test_what_is_not_in_the_file_is_not_announced(path, heard, piece):
    with path.open("rb") as file:
        mapped = memoryview(Listening(file.fileno(), 0, access=mmap.ACCESS_READ))
    will_read(mapped, *piece)
    assert heard == []


def test_bytes_that_are_no_mapped_file_need_no_advice():
    will_read(memoryview(b"abc"), 0, 3)
