import numpy as np
import pytest
import torch

from cosmictagger.data.batch import PADDING, allocate, image_dtype, pack
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.models.sparse.tables import NumpyBuilder, best_builder
from cosmictagger.models.sparse.torch_engine import TorchEngine
from cosmictagger.training.batches import DenseUnpacker, SparseUnpacker
from cosmictagger.training.suppression import above_threshold, pixels_of

SHAPE = (6, 8)  # ticks, wires
PLANES, SLOTS = 2, 7


def plane(*pixels):
    """Pixels given as (tick, wire, charge, label)."""
    ordered = sorted((tick * SHAPE[1] + wire, charge, label) for tick, wire, charge, label in pixels)
    index, value, label = zip(*ordered, strict=True)
    return PlanePixels(np.array(index, np.int32), np.array(value, np.float32), np.array(label, np.uint8))


@pytest.fixture
def records():
    records = allocate(3, image_dtype(PLANES, SLOTS))
    first = plane(
        (0, 0, 1.5, 0),  # a pair of noise: 3 together
        (1, 1, 1.5, 0),
        (0, 7, 2.5, 2),  # alone, at the end of the row before the next tick's first wire
        (3, 3, 9.0, 1),  # a track with a faint neighbour
        (4, 4, 0.5, 1),
        (5, 6, 3.9, 1),  # alone, just below 4
        (5, 0, 4.0, 2),  # alone, just there
    )
    second = plane((2, 2, 1.0, 0), (2, 4, 1.0, 0), (2, 6, 1.0, 2))
    pack(Event(0, EventId(1, 0, 0), SHAPE, (first, second)), records[0], "error")
    pack(Event(1, EventId(1, 0, 1), SHAPE, (second, first)), records[1], "error")
    return records  # the third is padding


def sparse(threshold):
    return SparseUnpacker(**settings(threshold), engine=TorchEngine(), sizes=(frozenset({3}),))


def settings(threshold):
    types = {"dtype": torch.float32, "model_dtype": torch.float32, "transform": "none"}
    return types | {"shape": SHAPE, "device": torch.device("cpu"), "zero_suppression": threshold}


@pytest.mark.parametrize("builder", [NumpyBuilder(), best_builder()], ids=["numpy", "best"])
@pytest.mark.parametrize(
    ("threshold", "left"), [(1.0, 7), (2.0, 7), (2.6, 6), (3.5, 4), (4.0, 3), (5.0, 2), (10.0, 0)], ids=str
)
def test_a_pixel_stays_where_its_surroundings_hold_enough(records, builder, threshold, left):
    pixels = pixels_of(records)
    chosen = above_threshold(pixels, SHAPE, threshold, builder)
    assert chosen[0, 0].sum() == chosen[1, 1].sum() == left
    assert chosen[0, 1].sum() == chosen[1, 0].sum() == (3 if threshold <= 1 else 0)
    assert not chosen[2].any()
    if threshold == 4:
        assert pixels.index[0, 0][chosen[0, 0]].tolist() == [27, 36, 40]


@pytest.mark.parametrize("builder", [NumpyBuilder(), best_builder()], ids=["numpy", "best"])
@pytest.mark.parametrize("slot", range(SLOTS))
def test_a_charge_that_is_no_number_takes_its_neighbours_along_and_no_others(records, builder, slot):
    """Readers refuse such a charge; were there one, it would leave out what stands beside it."""
    usual = above_threshold(pixels_of(records), SHAPE, 2.6, builder)
    near = np.zeros((3, PLANES, SLOTS), bool)
    tick, wire = np.divmod(records["index"][0, 0], SHAPE[1])
    near[0, 0] = (abs(tick - tick[slot]) <= 1) & (abs(wire - wire[slot]) <= 1)
    records["value"][0, 0, slot] = np.nan
    assert (above_threshold(pixels_of(records), SHAPE, 2.6, builder) == (usual & ~near)).all()


def test_what_stays_moves_up(records):
    pixels = pixels_of(records)
    kept = pixels.only(above_threshold(pixels, SHAPE, 4.0))
    assert kept.counts.tolist() == [[3, 0], [0, 3], [0, 0]]
    assert kept.index.tolist()[0] == [[27, 36, 40], [PADDING] * 3]
    assert kept.value.tolist()[1] == [[0] * 3, [9, 0.5, 4]]
    assert kept.label.tolist()[0] == [[1, 1, 2], [0] * 3]


def test_pixels_left_out_are_not_active_and_count_as_background(records):
    batch = sparse(4.0)(records)
    assert batch.inputs.values[:, 0].tolist() == [9, 0.5, 4, 9, 0.5, 4]
    assert batch.labels.tolist() == [1, 1, 2] * 2
    neutrino = torch.tensor([0.0, 0.0, 1.0]).expand(6, 3)
    counts = batch.confusion(neutrino)
    assert counts.sum(dim=(2, 3)).tolist() == [[48, 48]] * 3
    # Truth down, prediction across: one cosmic and one neutrino pixel are missed, all that is seen is called neutrino.
    assert counts[0, 0].tolist() == [[48 - 5, 0, 0], [1, 0, 2], [1, 0, 1]]
    assert counts[0, 1].tolist() == [[47, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert counts[2].sum(dim=0).tolist() == [[96, 0, 0], [0, 0, 0], [0, 0, 0]]
    index = np.array([0, 27, 36, 46], np.int32)
    assert batch.scores(neutrino, 0, 0, index).argmax(axis=1).tolist() == [0, 2, 2, 0]


def test_threshold_0_leaves_all(records):
    batch = sparse(0.0)(records)
    assert batch.kept is None
    assert len(batch.labels) == 20


def test_nothing_may_be_left(records):
    batch = sparse(100.0)(records)
    assert batch.inputs.values.shape == (0, 1)
    assert batch.confusion(torch.empty(0, 3))[0, 0].tolist() == [[43, 0, 0], [3, 0, 0], [2, 0, 0]]
    assert batch.loss(torch.empty(0, 3), "iou").isfinite()


def test_dense_images_are_zero_there_and_keep_their_labels(records):
    dense, active = DenseUnpacker(**settings(4.0))(records), sparse(4.0)(records)
    assert torch.equal(dense.inputs[dense.inputs > 0], active.inputs.values[:, 0])
    assert (dense.labels > 0).sum() == 12
    assert torch.equal(dense.labels, DenseUnpacker(**settings(0.0))(records).labels)
