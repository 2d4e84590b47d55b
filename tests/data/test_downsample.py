"""Pooling against a loop over pixels: equal to the last bit, whatever order and number the pixels come in."""

import numpy as np
import pytest

from cosmictagger.data.downsample import downsampled_shape, group, match
from cosmictagger.errors import UserError

from .builders import SHAPE, slow_downsample

TICKS, WIRES = SHAPE
FILE_SHAPE = (WIRES, TICKS)  # files number pixels wire by wire


def random_pixels(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    ids = np.sort(rng.choice(TICKS * WIRES, count, replace=False)).astype(np.int32)
    return ids, rng.lognormal(2.2, 1.3, count).astype(np.float32)


def check(ids: np.ndarray, values: np.ndarray, times: int) -> None:
    blocks = group(ids, FILE_SHAPE, times)
    averages, largest = slow_downsample(ids, values, SHAPE, times)
    expected = sorted(averages)
    assert blocks.index.tolist() == expected
    assert blocks.average(values).tolist() == [averages[block] for block in expected]
    labels = (values.astype(np.uint32) % 3).astype(np.uint8)
    _, largest = slow_downsample(ids, labels, SHAPE, times)
    assert blocks.maximum(labels).tolist() == [largest[block] for block in expected]
    assert (blocks.index.dtype, blocks.average(values).dtype, blocks.maximum(labels).dtype) == ("i4", "f4", "u1")


@pytest.mark.parametrize("times", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 7, 200, TICKS * WIRES])
def test_blocks_are_averaged_and_max_pooled_bit_for_bit(times, count):
    check(*random_pixels(count), times)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_pixels_in_any_order_are_summed_in_the_order_given(times):
    ids, values = random_pixels(200)
    shuffled = np.random.default_rng(1).permutation(200)
    check(ids[shuffled], values[shuffled], times)


@pytest.mark.parametrize("times", [0, 1])
def test_pixels_that_come_several_times_are_summed_and_keep_the_largest_label(times):
    ids = np.array([3, 3, 3, 3, 3, 70, 71, 71], np.int32)
    check(ids, np.array([1e8, 1, 1, 1, 1, 2, 0.1, 0.2], np.float32), times)


def test_the_sum_is_sequential_in_float32():
    # Pairwise, 1 + 1 would survive beside 2^24; from left to right each 1 is rounded away.
    ids = np.arange(4, dtype=np.int32)  # four ticks of wire 0: one block at two halvings
    values = np.array([2**24, 1, 1, 1], np.float32)
    assert group(ids, FILE_SHAPE, 2).average(values).tolist() == [2**24 / 16]


def test_a_lone_pixel_is_averaged_with_absent_ones():
    blocks = group(np.array([0], np.int32), FILE_SHAPE, 1)
    assert blocks.average(np.array([5.019], np.float32)) == np.float32(5.019) / 4


def test_images_too_wide_for_the_short_sort_are_ordered_too():
    ids = np.array([0, 69_999, 70_000, 139_999], np.int32)  # two wires of 70,000 ticks
    assert group(ids, (2, 70_000)).index.tolist() == [0, 1, 139_998, 139_999]


def test_shape_is_halved():
    assert downsampled_shape((1280, 2048), 0) == (1280, 2048)
    assert downsampled_shape((1280, 2048), 3) == (160, 256)


def test_a_shape_that_cannot_be_halved_is_refused_with_what_can():
    with pytest.raises(UserError, match=r"12 ticks x 40 wires cannot be halved 3 times; take 0 or 1 or 2\."):
        downsampled_shape((12, 40), 3)


def test_match_finds_equal_elements():
    places, found = match(np.array([2, 5, 9]), np.array([1, 2, 9, 11]))
    assert found.tolist() == [False, True, True, False]
    assert places[found].tolist() == [0, 2]


@pytest.mark.parametrize(("index", "other"), [([], [1, 2]), ([1, 2], []), ([], [])])
def test_match_with_nothing_finds_nothing(index, other):
    _, found = match(np.array(index, np.int32), np.array(other, np.int32))
    assert found.tolist() == [False] * len(other)
