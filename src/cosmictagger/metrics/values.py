"""Metric values from confusion counts.

Where a value is undefined it is 1. An intersection over union is undefined when no pixel has the class in
truth or in prediction: nothing was there and nothing was claimed, and the field's trainers count 1 too. An
accuracy is undefined when no pixel has the class in truth. The same 1 keeps the number of averaged images
equal for all metrics, but note that images without a neutrino then raise the mean `neutrino_accuracy`
whatever is predicted (their false claims show in `neutrino_iou`); the pooled values of
`MetricSums.means` have no such part.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

METRICS = ("accuracy", "non_background_accuracy", "neutrino_accuracy", "cosmic_iou", "neutrino_iou", "mean_iou")
COSMIC, NEUTRINO = 1, 2

Values = npt.NDArray[np.float64]


def metric_values(confusion: npt.NDArray[Any]) -> Values:
    """Turn confusion counts [..., 3, 3] into values [..., 6] in the order of `METRICS`, each from 0 to 1."""
    counts = confusion.astype(np.float64)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, claimed = counts.sum(axis=-1), counts.sum(axis=-2)
    iou = _ratio(right, true + claimed - right)
    values = (
        _ratio(right.sum(axis=-1), true.sum(axis=-1)),
        _ratio(right[..., COSMIC:].sum(axis=-1), true[..., COSMIC:].sum(axis=-1)),
        _ratio(right[..., NEUTRINO], true[..., NEUTRINO]),
        iou[..., COSMIC],
        iou[..., NEUTRINO],
        (iou[..., COSMIC] + iou[..., NEUTRINO]) / 2,
    )
    return np.stack(values, axis=-1)


def image_rows(confusion: npt.NDArray[Any]) -> list[dict[str, float]]:
    """Make a table row of each image of [N, P, 3, 3] counts.

    A row holds the metrics averaged over planes (``accuracy``), those of each plane (``plane0_accuracy``) and
    the pixels of each plane that are (``plane0_true_neutrino``) and are tagged (``plane0_tagged_neutrino``)
    cosmic and neutrino.
    """
    values = metric_values(confusion)
    return [_row(values[image], confusion[image]) for image in range(len(confusion))]


def named(values: Values) -> dict[str, float]:
    """Name the six values of [6] after `METRICS`."""
    return dict(zip(METRICS, values.tolist(), strict=True))


def _row(values: Values, counts: npt.NDArray[Any]) -> dict[str, float]:
    row = named(values.mean(axis=0))
    for plane, plane_values in enumerate(values):
        row |= {f"plane{plane}_{name}": value for name, value in named(plane_values).items()}
        for kind, name in ((COSMIC, "cosmic"), (NEUTRINO, "neutrino")):
            row[f"plane{plane}_true_{name}"] = int(counts[plane, kind].sum())
            row[f"plane{plane}_tagged_{name}"] = int(counts[plane, :, kind].sum())
    return row


def _ratio(part: Values, whole: Values) -> Values:
    return np.divide(part, whole, out=np.ones_like(whole), where=whole > 0)
