"""Unpacking records into dense images: every pixel in its place, nothing else anywhere."""

import numpy as np
import pytest
import torch

from cosmictagger.data.batch import PADDING, allocate, image_dtype, pack
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.training.batches import CHARGE_SCALE, DenseUnpacker

SHAPE = (4, 6)


def unpacker(**changes):
    settings = {"shape": SHAPE, "device": torch.device("cpu"), "dtype": torch.float32, "model_dtype": torch.float32}
    return DenseUnpacker(**(settings | {"transform": "none"} | changes))


@pytest.fixture
def records():
    """Two images, the second one padding; plane 0 of the first has pixels in the first and the last slot."""
    records = allocate(2, image_dtype(2, 5))
    full = PlanePixels(
        np.array([0, 7, 23], np.int32), np.array([5, 60, 900], np.float32), np.array([0, 1, 2], np.uint8)
    )
    one = PlanePixels(np.array([6], np.int32), np.array([7], np.float32), np.array([2], np.uint8))
    pack(Event(9, EventId(1, 2, 3), SHAPE, (full, one)), records[0], "error")
    return records


def test_pixels_are_where_they_belong(records):
    batch = unpacker()(records)
    images, labels = torch.zeros(2, 2, *SHAPE), torch.zeros(2, 2, *SHAPE, dtype=torch.uint8)
    images[0, 0, 0, 0], images[0, 0, 1, 1], images[0, 0, 3, 5], images[0, 1, 1, 0] = 5, 60, 900, 7
    labels[0, 0, 1, 1], labels[0, 0, 3, 5], labels[0, 1, 1, 0] = 1, 2, 2
    assert torch.equal(batch.inputs, images)
    assert torch.equal(batch.labels, labels)
    assert batch.valid.tolist() == [True, False]


def test_a_batch_without_any_pixel():
    batch = unpacker()(allocate(1, image_dtype(3, 5)))
    assert batch.inputs.shape == (1, 3, *SHAPE)
    assert not batch.inputs.any()


def test_the_logarithm_keeps_absent_pixels_at_zero(records):
    plain, logged = unpacker()(records).inputs, unpacker(transform="log")(records).inputs
    assert torch.allclose(logged, torch.log1p(plain / CHARGE_SCALE))
    assert torch.equal(logged == 0, plain == 0)


def test_half_precision_input(records):
    batch = unpacker(dtype=torch.bfloat16)(records)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs[0, 0, 3, 5] == 900  # 900 = 225 * 4 needs 8 bits: exact
    assert unpacker(dtype=torch.bfloat16, model_dtype=torch.bfloat16)(records).inputs.dtype == torch.bfloat16


def test_the_batch_does_not_change_when_its_records_are_filled_again(records):
    batch = unpacker()(records)
    before = batch.inputs.clone(), batch.labels.clone()
    records["value"][:], records["label"][:], records["index"][:] = 1, 1, PADDING
    assert torch.equal(batch.inputs, before[0])
    assert torch.equal(batch.labels, before[1])


def test_scores_of_chosen_pixels_are_the_softmax(records):
    batch = unpacker()(records)
    logits = torch.randn(2, 2, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    index = np.array([0, 7, 23], np.int32)
    expected = torch.softmax(logits[0, 0].permute(1, 2, 0).reshape(-1, 3)[[0, 7, 23]], dim=1)
    assert batch.scores(logits, 0, 0, index) == pytest.approx(expected.numpy(), abs=1e-7)
    assert batch.scores(logits, 1, 1, np.empty(0, np.int32)).shape == (0, 3)
