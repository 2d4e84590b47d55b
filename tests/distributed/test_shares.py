"""Every image goes to exactly one rank, whatever the number of ranks and groups."""

import numpy as np
import pytest

from cosmictagger.data.batch import PADDING
from cosmictagger.data.sampler import SerialSampler, ShuffledSampler
from cosmictagger.distributed.shares import ShareSampler, balanced, equal_share, group_of
from cosmictagger.errors import UserError


def groups(ranks: int, number: int) -> list[range]:
    """The ranks of each group."""
    members = [[rank for rank in range(ranks) if group_of(rank, ranks, number) == group] for group in range(number)]
    return [range(ranks_of[0], ranks_of[-1] + 1) for ranks_of in members]


@pytest.mark.parametrize(("ranks", "number"), [(1, 1), (4, 1), (4, 2), (5, 2), (7, 3), (6, 6)])
def test_groups_are_neighbours_and_even(ranks, number):
    found = groups(ranks, number)
    assert [rank for group in found for rank in group] == list(range(ranks))
    assert max(map(len, found)) - min(map(len, found)) <= 1


@pytest.mark.parametrize(("ranks", "number"), [(1, 1), (3, 1), (3, 2), (4, 4), (5, 3)])
@pytest.mark.parametrize("events", [1, 7, 12])
def test_a_pass_in_order_sees_every_entry_once(ranks, number, events):
    sampler = SerialSampler(events, 4)
    seen = []
    for step in range(len(sampler)):
        parts = [ShareSampler(sampler, ranks, members).entries(step) for members in groups(ranks, number)]
        together = np.concatenate(parts)
        assert len(together) == ranks * -(-4 // ranks)
        seen += [entry for entry in together.tolist() if entry != PADDING]
    assert seen == list(range(events))


@pytest.mark.parametrize(("ranks", "number"), [(2, 1), (3, 2), (4, 3)])
def test_an_epoch_uses_every_entry_once_though_ranks_do_not_divide_the_file(ranks, number):
    events, images = 7, 12
    sampler = ShuffledSampler(events, images, seed=5)
    entries = np.concatenate(
        [ShareSampler(sampler, ranks, members).entries(step) for step in range(7) for members in groups(ranks, number)]
    )
    assert entries.reshape(-1, events).tolist() != [list(range(events))] * images
    for epoch in entries.reshape(-1, events):
        assert sorted(epoch.tolist()) == list(range(events))


def test_ranks_take_their_entries_in_order():
    sampler = SerialSampler(12, 12)
    assert ShareSampler(sampler, 4, range(2, 4)).entries(0).tolist() == [6, 7, 8, 9, 10, 11]


def test_fewer_entries_than_ranks_are_padded():
    sampler = ShareSampler(SerialSampler(2, 2), 4, range(1, 4))
    assert sampler.images_per_step == 3
    assert sampler.entries(0).tolist() == [1, PADDING, PADDING]


def test_equal_share():
    assert equal_share(12, 4) == 3


@pytest.mark.parametrize(("images", "advice"), [(5, "take 4 or 6."), (1, "take 2."), (7, "take 6 or 8.")])
def test_images_that_cannot_be_shared_equally(images, advice):
    with pytest.raises(
        UserError, match=f"--minibatch-size: {images} images cannot be shared equally by 2 ranks; {advice}"
    ):
        equal_share(images, 2)


@pytest.mark.parametrize(("ranks", "number"), [(2, 1), (3, 2), (4, 4), (5, 3)])
@pytest.mark.parametrize("images", [4, 12, 17])
def test_sizes_change_who_gets_an_entry_and_nothing_else(ranks, number, images):
    events = 40
    sampler, sizes = SerialSampler(events, images), np.random.default_rng(3).integers(1, 1000, events)
    for step in range(len(sampler)):
        shares = [ShareSampler(sampler, ranks, members, sizes).entries(step) for members in groups(ranks, number)]
        together = np.concatenate(shares)
        expected = sampler.entries(step).tolist()
        assert sorted(together.tolist()) == sorted(expected + [PADDING] * (len(together) - len(expected)))


def test_shares_have_about_equally_many_pixels():
    """Of 16 ranks with 4 images each the fullest has 1.16 times the mean without sizes, and hardly more than it with them."""
    ranks, images = 16, 64
    sizes = np.random.default_rng(0).normal(1000, 200, 20 * images).astype(np.int64)
    fullest = {}
    for known in (None, sizes):
        shares = ShareSampler(SerialSampler(len(sizes), images), ranks, range(ranks), known)
        loads = np.array([sizes[shares.entries(step)].reshape(ranks, -1).sum(axis=1) for step in range(20)])
        fullest[known is not None] = float((loads.max(axis=1) / loads.mean(axis=1)).mean())
    assert fullest[False] > 1.1
    assert fullest[True] < 1.03


def test_one_image_a_rank_stays_in_order():
    shares = ShareSampler(SerialSampler(4, 4), 4, range(4), np.array([1, 5, 2, 9]))
    assert shares.entries(0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([9, 1, 8, 2], [0, 1, 2, 3]),  # 9 + 1 and 8 + 2
        ([1, 2, 8, 9], [3, 0, 2, 1]),
        ([5, 5, 5, 5], [0, 2, 1, 3]),
        ([100, 1, 1, 0], [0, 3, 1, 2]),
    ],
)
def test_the_largest_are_shared_first(sizes, expected):
    assert balanced(np.arange(4), np.array(sizes), 2).tolist() == expected
