"""Unpacking in a thread gives what unpacking in place gives, earlier, and passes errors on."""

import contextlib
import threading

import numpy as np
import pytest

from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.prefetch import best_unpacking, prefetched, unpacked


def feed(batches, taken):
    """Records that are their number, and a note of each that is taken."""
    for number in range(batches):
        taken.append(number)
        yield number, np.array([number])


def clocks():
    return Clocks(lambda: None)


@pytest.mark.parametrize("unpacking", [unpacked, prefetched])
def test_every_batch_comes_once_with_its_records(unpacking):
    got = [(int(records[0]), batch) for records, batch in unpacking(feed(5, []), lambda r: 10 * int(r[0]), clocks())]
    assert got == [(number, 10 * number) for number in range(5)]


def test_the_next_batch_is_unpacked_in_a_thread_while_one_is_in_use():
    done, threads = [threading.Event() for _ in range(3)], set()

    def unpack(records):
        threads.add(threading.get_ident())
        done[records[0]].set()

    taken = []
    with contextlib.closing(prefetched(feed(3, taken), unpack, clocks())) as batches:
        next(batches)
        assert taken == [0, 1]
        assert done[1].wait(10)
        assert not done[2].is_set()
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("unpacking", [unpacked, prefetched])
def test_an_error_reaches_whoever_asks_for_the_batch(unpacking):
    def unpack(records):
        if records[0] == 1:
            raise ValueError("batch 1 is odd")

    batches = unpacking(feed(3, []), unpack, clocks())
    next(batches)
    with pytest.raises(ValueError, match="batch 1 is odd"):
        next(batches)


def test_leaving_early_ends_the_thread():
    before = threading.active_count()
    with contextlib.closing(prefetched(feed(9, []), lambda r: r, clocks())) as batches:
        next(batches)
    assert threading.active_count() == before


def test_the_thread_is_used_where_a_core_is_free():
    assert best_unpacking(spare_core=True) is prefetched
    assert best_unpacking(spare_core=False) is unpacked
