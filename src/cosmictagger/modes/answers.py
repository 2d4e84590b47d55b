"""What inference finds out about the images of a batch, in records of fixed size that ranks can gather."""

from typing import Any

import numpy as np
import numpy.typing as npt

from cosmictagger.data.batch import Records, image_dtype
from cosmictagger.data.open import ImageLayout
from cosmictagger.training.evaluation import Evaluated
from cosmictagger.training.loss import Scheme

CLASSES = 3


def answer_dtype(layout: ImageLayout) -> "np.dtype[np.void]":
    """Describe an answer: the `record` of the image, `scores` of its pixel slots, `confusion` counts, and `loss`."""
    slots = (layout.planes, layout.max_voxels)
    fields: list[Any] = [
        ("record", image_dtype(*slots)),
        ("scores", "f4", (*slots, CLASSES)),
        ("confusion", "i8", (layout.planes, CLASSES, CLASSES)),
        ("loss", "f8"),
    ]
    return np.dtype(fields, align=True)


def fill(answers: Records, evaluated: Evaluated, scheme: Scheme | None) -> None:
    """Fill in the answers of a batch; without a `scheme` (no labels) `confusion` and `loss` mean nothing.

    `loss` is summed over the batch, in its first answer.
    """
    answers["record"] = evaluated.records
    for image, counts in enumerate(evaluated.records["count"].tolist()):
        for plane, count in enumerate(counts):
            index: npt.NDArray[np.int32] = evaluated.records["index"][image, plane, :count]
            answers["scores"][image, plane, :count] = evaluated.batch.scores(evaluated.logits, image, plane, index)
    if scheme is not None:
        answers["confusion"] = evaluated.batch.confusion(evaluated.logits).cpu().numpy()
        answers["loss"] = 0.0
        answers["loss"][0] = float(evaluated.batch.loss(evaluated.logits, scheme, normalizer=1.0))
