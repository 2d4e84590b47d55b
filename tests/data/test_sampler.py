"""Samplers: every entry once an epoch, whatever the batch size; the same from any step on."""

import numpy as np
import pytest

from cosmictagger.data.batch import PADDING
from cosmictagger.data.sampler import SerialSampler, ShuffledSampler
from cosmictagger.errors import UserError


@pytest.mark.parametrize(("length", "images"), [(7, 3), (7, 7), (3, 8), (1, 4), (12, 4)])
def test_every_entry_is_used_once_an_epoch(length, images):
    sampler = ShuffledSampler(length, images, seed=5)
    steps = length  # the whole of `images` epochs
    stream = np.concatenate([sampler.entries(step) for step in range(steps)])
    for epoch in stream.reshape(images, length):
        assert sorted(epoch) == list(range(length))


def test_epochs_differ_and_seeds_differ():
    first, second = (ShuffledSampler(50, 50, seed=1).entries(step) for step in (0, 1))
    other = ShuffledSampler(50, 50, seed=2).entries(0)
    assert first.tolist() != second.tolist()
    assert first.tolist() != other.tolist()


def test_any_step_can_be_asked_for_first():
    whole = ShuffledSampler(10, 4, seed=3)
    stream = [whole.entries(step).tolist() for step in range(20)]
    assert [ShuffledSampler(10, 4, seed=3).entries(step).tolist() for step in (17, 2, 9)] == [
        stream[17],
        stream[2],
        stream[9],
    ]


def test_the_stream_does_not_depend_on_the_batch_size():
    by_two = np.concatenate([ShuffledSampler(9, 2, seed=0).entries(step) for step in range(9)])
    by_six = np.concatenate([ShuffledSampler(9, 6, seed=0).entries(step) for step in range(3)])
    assert by_two.tolist() == by_six.tolist()


def test_serial_covers_all_and_pads_the_last_batch():
    sampler = SerialSampler(5, 2)
    assert len(sampler) == 3
    assert [sampler.entries(step).tolist() for step in range(3)] == [[0, 1], [2, 3], [4, PADDING]]


@pytest.mark.parametrize("make", [lambda: SerialSampler(0, 2), lambda: ShuffledSampler(0, 2, 0)])
def test_no_events_is_refused(make):
    with pytest.raises(UserError, match="no events"):
        make()
