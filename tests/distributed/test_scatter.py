"""What an I/O root reads arrives, whole and once, at the ranks of its group."""

import numpy as np
import pytest

from cosmictagger.data.batch import PADDING
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.data.loader import Loader
from cosmictagger.data.open import Dataset, ImageLayout
from cosmictagger.data.sampler import SerialSampler, ShuffledSampler
from cosmictagger.distributed.datasets import ReadElsewhere
from cosmictagger.distributed.shares import ShareSampler
from cosmictagger.errors import UserError

from .ranks import on_ranks

SHAPE, PLANES, VOXELS = (8, 10), 2, 6
LAYOUT = ImageLayout(planes=PLANES, shape=SHAPE, downsample=0, max_voxels=VOXELS)


class Numbered:
    """A reader of events whose pixels follow from their entry; remembers what was read."""

    shape, bytes_read, unmatched_labels = SHAPE, 0, 0

    def __init__(self, length: int) -> None:
        self.length = length
        self.read_here: list[int] = []

    def __len__(self) -> int:
        return self.length

    def sizes(self) -> np.ndarray:
        return np.array([sum(len(pixels(entry, plane).index) for plane in range(PLANES)) for entry in range(len(self))])

    def read(self, entry: int) -> Event:
        self.read_here.append(entry)
        return Event(entry, EventId(1, 2, entry), SHAPE, tuple(pixels(entry, plane) for plane in range(PLANES)))

    def describe(self, entry: int) -> str:
        return f"entry {entry}"

    def close(self) -> None: ...


def pixels(entry: int, plane: int) -> PlanePixels:
    index = np.arange(1 + (entry + plane) % VOXELS, dtype=np.int32)
    return PlanePixels(index, np.full(len(index), entry + plane / 2, np.float32), (index % 3).astype(np.uint8))


def strategy(job, groups: int):
    from cosmictagger.distributed.scatter import ScatteredData

    return ScatteredData(job.communicator, groups)


def feed(job, groups: int, sampler, steps: range, length: int):
    data = strategy(job, groups)
    dataset = data.open(lambda: Dataset(reader=Numbered(length), layout=LAYOUT, labelled=True))

    def make_loader(own):
        return Loader(dataset.reader, own, steps, planes=PLANES, max_voxels=VOXELS)

    return data, dataset, data.feed(dataset, sampler, steps, make_loader)


def all_groups(job) -> list[int]:
    return list(range(1, job.communicator.size + 1))


@on_ranks
def test_every_entry_arrives_once_where_it_belongs(job):
    ranks, rank = job.communicator.size, job.communicator.rank
    for groups in all_groups(job):
        for images in (1, 4, 6):
            sampler = SerialSampler(7, images)
            data, _, own = feed(job, groups, sampler, range(len(sampler)), 7)
            shares = ShareSampler(sampler, ranks, range(rank, rank + 1), Numbered(7).sizes())
            seen = np.zeros(7)
            for step, records in own:
                for record, entry in zip(records, shares.entries(step).tolist(), strict=True):
                    assert record["entry"] == entry, (groups, images, step)
                    counts = [1 + (entry + plane) % VOXELS for plane in range(PLANES)]
                    assert record["count"].tolist() == (counts if entry != PADDING else [0, 0])
                    if entry != PADDING:
                        seen[entry] += 1
                        values = record["value"][1][: counts[1]]
                        assert values.tolist() == [entry + 0.5] * counts[1]
            assert job.communicator.sum(seen).tolist() == [1] * 7
            own.close()
            data.finish()


@on_ranks
def test_epochs_use_every_entry_once_over_all_ranks(job):
    events, images = 7, 12
    for groups in all_groups(job):
        sampler = ShuffledSampler(events, images, seed=1)
        data, _, own = feed(job, groups, sampler, range(7), events)
        seen = np.zeros(events)
        for _, records in own:
            for entry in records["entry"].tolist():
                seen[entry] += 1
        own.close()
        data.finish()
        assert job.communicator.sum(seen).tolist() == [images] * events


@on_ranks
def test_only_roots_open_files(job):
    ranks, rank = job.communicator.size, job.communicator.rank
    for groups in all_groups(job):
        _, dataset, own = feed(job, groups, SerialSampler(5, ranks), range(0), 5)
        own.close()
        root = rank in {next(r for r in range(ranks) if r * groups // ranks == g) for g in range(groups)}
        assert isinstance(dataset.reader, Numbered if root else ReadElsewhere)
        assert len(dataset.reader) == 5
        assert dataset.layout == LAYOUT
        assert dataset.labelled is True


@on_ranks
def test_a_feed_that_is_left_early_ends_for_all(job):
    data, _, own = feed(job, 1, ShuffledSampler(5, job.communicator.size, seed=0), range(1000), 5)
    for step, _ in own:
        if step == 2:
            break
    own.close()
    data.finish()
    assert job.communicator.any(False) is False


@on_ranks
def test_records_stay_valid_until_the_second_next_are_asked_for(job):
    ranks = job.communicator.size
    data, _, own = feed(job, 1, SerialSampler(8 * ranks, ranks), range(8), 8 * ranks)
    held = []
    for _, records in own:
        held = [*held[-1:], (records, records.tobytes())]
        job.communicator.any(False)  # MPI makes progress: the next batch may arrive meanwhile
        for taken, before in held:
            assert taken.tobytes() == before
    own.close()
    data.finish()


@on_ranks
def test_roots_that_see_different_files_are_told_apart(job):
    if job.communicator.size == 1:
        pytest.skip("one rank has nobody to differ from")
    length = 5 + job.communicator.rank
    with pytest.raises(UserError, match="the I/O roots do not read the same files: events 5 on one host and"):
        strategy(job, job.communicator.size).open(
            lambda: Dataset(reader=Numbered(length), layout=LAYOUT, labelled=True)
        )


@on_ranks
def test_more_groups_than_ranks_are_refused(job):
    with pytest.raises(UserError, match="--io-groups: 9 groups need at least as many ranks"):
        strategy(job, 9)


@on_ranks
def test_counts_are_summed_and_the_first_empty_entry_is_the_lowest(job):
    from cosmictagger.data.loader import LoaderCounts
    from cosmictagger.distributed.totals import total_counts

    ranks, rank = job.communicator.size, job.communicator.rank
    own = LoaderCounts(images=rank + 1, empty_planes=1, first_empty=10 - rank, wait_seconds=float(rank))
    total = total_counts(job.communicator, own)
    assert total.images == ranks * (ranks + 1) // 2
    assert (total.empty_planes, total.first_empty, total.wait_seconds) == (ranks, 11 - ranks, ranks - 1.0)
    assert total_counts(job.communicator, LoaderCounts()).first_empty is None
