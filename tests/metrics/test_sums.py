import numpy as np
import pytest
import torch

from cosmictagger.metrics.confusion import confusion
from cosmictagger.metrics.sums import RESOLUTION, MetricSums
from cosmictagger.metrics.values import METRICS, metric_values

PLANES = 3


@pytest.fixture
def counts():
    """Counts of 24 random images, some planes without neutrinos."""
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 1000, (24, PLANES, 3, 3))
    counts[::5, :, :, 2] = counts[::5, :, 2, :] = 0
    return counts


def summed(counts, batch):
    sums = MetricSums(PLANES)
    for start in range(0, len(counts), batch):
        sums.add(counts[start : start + batch])
    return sums


@pytest.mark.parametrize("batch", [1, 5, 7])
def test_batch_size_does_not_change_a_bit(counts, batch):
    assert summed(counts, batch).to_vector().tobytes() == summed(counts, len(counts)).to_vector().tobytes()


def test_ranks_and_order_do_not_change_a_bit(counts):
    vectors = [summed(counts[rank::3][::-1], 2).to_vector() for rank in range(3)]
    together = MetricSums.from_vector(vectors[2] + (vectors[0] + vectors[1]), PLANES)
    assert together.to_vector().tobytes() == summed(counts, 4).to_vector().tobytes()
    assert together.means() == summed(counts, 24).means()


def test_means_are_those_of_the_images(counts):
    means = summed(counts, 6).means()
    values = metric_values(counts)
    assert means["images"] == 24
    for index, name in enumerate(METRICS):
        assert means[name] == pytest.approx(values[..., index].mean(), abs=RESOLUTION)
        assert means["plane1"][name] == pytest.approx(values[:, 1, index].mean(), abs=RESOLUTION)


def test_pooled_values_come_from_all_pixels_together(counts):
    pooled = summed(counts, 6).means()["pooled"]
    total = counts.sum(axis=(0, 1))
    assert pooled["neutrino_accuracy"] == total[2, 2] / total[2].sum()
    assert pooled["cosmic_iou"] == total[1, 1] / (total[1].sum() + total[:, 1].sum() - total[1, 1])
    plane = counts[:, 2].sum(axis=0)
    assert pooled["plane2"]["accuracy"] == np.trace(plane) / plane.sum()


def test_padding_images_are_not_counted(counts):
    sums = MetricSums(PLANES)
    valid = np.arange(24) < 20
    sums.add(torch.from_numpy(counts), torch.from_numpy(valid))
    assert sums.images == 20
    assert sums.to_vector().tobytes() == summed(counts[:20], 20).to_vector().tobytes()


def test_a_batch_of_padding_alone_adds_nothing(counts):
    sums = MetricSums(PLANES)
    sums.add(counts, np.zeros(24, bool))
    assert not sums.to_vector().any()


def test_the_vector_is_a_copy(counts):
    sums = summed(counts, 24)
    sums.to_vector()[:] = 0
    assert sums.images == 24


def test_no_images_have_no_mean():
    with pytest.raises(ValueError, match="no image"):
        MetricSums(PLANES).means()


def test_from_labels_to_means_by_hand():
    label = torch.tensor([[[0, 1, 1, 2], [0, 0, 0, 0]]], dtype=torch.uint8)
    prediction = torch.tensor([[[0, 1, 2, 2], [0, 0, 0, 1]]])
    sums = MetricSums(2)
    sums.add(confusion(prediction, label))
    means = sums.means()
    assert means["plane0"] == {
        "accuracy": 0.75,
        "non_background_accuracy": pytest.approx(2 / 3, abs=RESOLUTION),
        "neutrino_accuracy": 1.0,
        "cosmic_iou": 0.5,
        "neutrino_iou": 0.5,
        "mean_iou": 0.5,
    }
    assert means["plane1"]["cosmic_iou"] == 0.0
    assert means["plane1"]["neutrino_iou"] == 1.0
    assert means["mean_iou"] == 0.5
