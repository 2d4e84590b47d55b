"""Unpacking records into dense images: every pixel in its place, nothing else anywhere."""

import numpy as np
import pytest
import torch

from cosmictagger.data.batch import PADDING, allocate, image_dtype, pack
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.models.sparse.torch_engine import TorchEngine
from cosmictagger.training.batches import CHARGE_SCALE, DenseUnpacker, SparseUnpacker

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


def sparse_unpacker(**changes):
    settings = {"shape": SHAPE, "device": torch.device("cpu"), "dtype": torch.float32, "model_dtype": torch.float32}
    settings |= {"engine": TorchEngine(), "sizes": (frozenset({3}),)}
    return SparseUnpacker(**(settings | {"transform": "none"} | changes))


def test_sparse_pixels_are_in_the_order_of_image_plane_and_index(records):
    batch = sparse_unpacker()(records)
    assert batch.inputs.values.tolist() == [[5], [60], [900], [7]]
    assert batch.inputs.sites.image_plane.tolist() == [0, 0, 0, 1]
    assert batch.labels.tolist() == [0, 1, 2, 2]
    assert batch.valid.tolist() == [True, False]


def test_a_sparse_batch_without_any_pixel():
    batch = sparse_unpacker()(allocate(1, image_dtype(3, 5)))
    assert batch.inputs.values.shape == (0, 1)
    assert batch.confusion(torch.empty(0, 3)).sum(dim=(0, 1)).tolist() == [[72, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert batch.loss(torch.empty(0, 3), "light").item() == 0
    assert batch.scores(torch.empty(0, 3), 0, 1, np.array([4], np.int32)).tolist() == [[1, 0, 0]]


def test_sparse_values_equal_the_dense_ones(records):
    dense, sparse = unpacker(transform="log")(records), sparse_unpacker(transform="log")(records)
    assert torch.equal(sparse.inputs.values[:, 0], dense.inputs[dense.inputs > 0])
    half = sparse_unpacker(dtype=torch.bfloat16, model_dtype=torch.bfloat16)(records)
    assert half.inputs.values.dtype == torch.bfloat16


def test_the_sparse_batch_does_not_change_when_its_records_are_filled_again(records):
    batch = sparse_unpacker()(records)
    before = batch.inputs.values.clone(), batch.labels.clone(), batch.pixels.copy()
    records["value"][:], records["label"][:], records["index"][:] = 1, 1, PADDING
    assert torch.equal(batch.inputs.values, before[0])
    assert torch.equal(batch.labels, before[1])
    assert np.array_equal(batch.pixels, before[2])


def test_sparse_and_dense_count_and_score_alike(records):
    """Where the dense network calls everything else background, both batches find the same."""
    dense, sparse = unpacker()(records), sparse_unpacker()(records)
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    images = torch.zeros(2, 2, *SHAPE, 3)
    images[..., 0] = 30
    images[dense.inputs > 0] = logits
    images = images.permute(0, 1, 4, 2, 3)
    assert torch.equal(sparse.confusion(logits), dense.confusion(images))
    index = np.array([0, 1, 7, 23], np.int32)
    for plane in range(2):
        expected = dense.scores(images, 0, plane, index)
        assert sparse.scores(logits, 0, plane, index) == pytest.approx(expected, abs=1e-6)
    active = np.array([0, 7, 23], np.int32)
    assert sparse.scores(logits, 0, 0, active) == pytest.approx(torch.softmax(logits[:3], dim=1).numpy(), abs=1e-6)
