import numpy as np
import pytest

from cosmictagger.config.options import options_of
from cosmictagger.config.sections import RunConfig
from cosmictagger.metrics.values import METRICS, image_rows, metric_values, named

# Truth down, prediction across.
TYPICAL = np.array([[90, 2, 1], [1, 6, 1], [0, 1, 3]])
BACKGROUND_ONLY = np.array([[50, 0, 0], [0, 0, 0], [0, 0, 0]])
NO_NEUTRINO_BUT_CLAIMED = np.array([[40, 0, 2], [1, 5, 0], [0, 0, 0]])
ONE_PIXEL_MISSED = np.array([[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_values_computed_by_hand():
    assert named(metric_values(TYPICAL)) == {
        "accuracy": 99 / 105,
        "non_background_accuracy": 9 / 12,
        "neutrino_accuracy": 3 / 4,
        "cosmic_iou": 6 / 11,
        "neutrino_iou": 3 / 6,
        "mean_iou": (6 / 11 + 3 / 6) / 2,
    }


def test_empty_plane_counts_as_right_in_every_metric():
    assert metric_values(BACKGROUND_ONLY).tolist() == [1.0] * 6
    assert metric_values(np.zeros((3, 3), np.int64)).tolist() == [1.0] * 6


def test_no_neutrino_has_accuracy_1_and_a_false_claim_shows_in_the_iou():
    values = named(metric_values(NO_NEUTRINO_BUT_CLAIMED))
    assert values["neutrino_accuracy"] == 1.0
    assert values["neutrino_iou"] == 0.0
    assert values["non_background_accuracy"] == 5 / 6
    assert values["mean_iou"] == values["cosmic_iou"] / 2 == 5 / 12


def test_single_pixel():
    assert metric_values(ONE_PIXEL_MISSED).tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.5]


def test_leading_axes_are_kept():
    counts = np.stack([np.stack([TYPICAL, BACKGROUND_ONLY])] * 3)
    values = metric_values(counts)
    assert values.shape == (3, 2, len(METRICS))
    assert values[2, 0].tolist() == metric_values(TYPICAL).tolist()


def test_a_row_has_means_over_planes_values_of_planes_and_pixels():
    (row,) = image_rows(np.stack([TYPICAL, NO_NEUTRINO_BUT_CLAIMED])[None])
    assert row["neutrino_iou"] == pytest.approx((0.5 + 0.0) / 2)
    assert row["plane0_cosmic_iou"] == 6 / 11
    assert (row["plane0_true_cosmic"], row["plane0_tagged_cosmic"]) == (8, 9)
    assert (row["plane1_true_neutrino"], row["plane1_tagged_neutrino"]) == (0, 2)
    assert len(row) == 6 + 2 * (6 + 4)


def test_every_metric_may_be_a_target():
    choices = next(item.choices for item in options_of(RunConfig) if item.key == "target_metric")
    assert choices == tuple(f"validation.{name}" for name in METRICS)
