"""The loader: batches in order, buffers reused, errors surfacing where they belong."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from cosmictagger.data.batch import PADDING
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.data.loader import Loader
from cosmictagger.data.sampler import SerialSampler
from cosmictagger.errors import UserError


class CountingReader:
    """Entry e has e pixels in plane 0, none in plane 1; later entries are read faster, to shuffle the threads."""

    shape = (32, 32)
    bytes_read = 0
    unmatched_labels = 0

    def __init__(self, length: int, broken: int | None = None) -> None:
        self.length, self.broken = length, broken
        self.threads: set[int] = set()

    def __len__(self) -> int:
        return self.length

    def read(self, entry: int) -> Event:
        self.threads.add(threading.get_ident())
        if entry == self.broken:
            raise UserError(f"entry {entry} is broken")
        time.sleep(0.002 * (entry % 3))
        index = np.arange(entry, dtype=np.int32)
        full = PlanePixels(index, index.astype(np.float32), np.ones(entry, np.uint8))
        none = np.empty(0, np.int32)
        return Event(entry, EventId(0, 0, entry), self.shape, (full, PlanePixels(none, none.astype(np.float32), None)))

    def describe(self, entry: int) -> str:
        return f"'counting' entry {entry}"


def loader(reader: CountingReader, images: int = 3, steps: range | None = None, **options: object) -> Loader:
    sampler = SerialSampler(len(reader), images)
    settings = {"planes": 2, "max_voxels": 20} | options
    return Loader(reader, sampler, steps or range(len(sampler)), **settings)


def test_batches_come_in_order_and_cover_all_entries():
    batches = [
        (step, records["entry"].tolist(), records["count"][:, 0].tolist())
        for step, records in loader(CountingReader(8))
    ]
    assert batches == [(0, [0, 1, 2], [0, 1, 2]), (1, [3, 4, 5], [3, 4, 5]), (2, [6, 7, PADDING], [6, 7, 0])]


def test_events_are_augmented_with_their_step():
    def augment(event: Event, step: int) -> Event:
        planes = tuple(PlanePixels(p.index, p.value + 100 * step, p.label) for p in event.planes)
        return dataclasses.replace(event, planes=planes)

    values = [
        records["value"][i, 0, : records["count"][i, 0]].tolist()
        for _, records in loader(CountingReader(4), images=2, augment=augment)
        for i in range(2)
    ]
    assert values == [[], [0], [100, 101], [100, 101, 102]]


def test_reading_starts_at_any_step():
    assert [step for step, _ in loader(CountingReader(8), steps=range(1, 3))] == [1, 2]


def test_a_fixed_ring_of_buffers_is_reused():
    addresses = {records.__array_interface__["data"][0] for _, records in loader(CountingReader(20), prefetch=2)}
    assert len(addresses) == 2 + 2  # read ahead, and in use


def test_several_threads_read():
    reader = CountingReader(20)
    list(loader(reader, threads=2))
    assert len(reader.threads) == 2
    assert threading.get_ident() not in reader.threads


def test_an_error_in_a_thread_reaches_the_caller_and_ends_the_threads():
    before = threading.active_count()
    seen = []
    with pytest.raises(UserError, match="entry 4 is broken"):
        seen.extend(step for step, _ in loader(CountingReader(9, broken=4)))
    assert seen == [0]
    assert threading.active_count() == before


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    batches = iter(loader(CountingReader(20)))
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_empty_planes_and_truncations_are_counted():
    source = loader(CountingReader(6), max_voxels=4, on_overflow="truncate")
    list(source)
    counts = source.counts
    assert (counts.images, counts.pixels) == (6, 15)
    assert (counts.truncated_images, counts.truncated_pixels) == (1, 1)
    assert (counts.empty_planes, counts.empty_images, counts.first_empty) == (7, 1, 0)


def test_overflow_names_the_entry():
    with pytest.raises(UserError, match="'counting' entry 5: plane 0 has 5 pixels and --max-voxels is 4"):
        list(loader(CountingReader(6), max_voxels=4))
