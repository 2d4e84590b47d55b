"""Sums of metrics over images, as one vector that ranks can add."""

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cosmictagger.metrics.confusion import CELLS, CLASSES
from cosmictagger.metrics.values import METRICS, Values, metric_values, named

# Per-image values are rounded to this grid before they are summed. Sums of up to 2^21 images are then exact in
# float64, hence bit-equal for every order, batch size and number of ranks; the rounding is below 2e-10.
RESOLUTION = 2.0**-32


class MetricSums:
    """What has been seen so far: number of images, sums of per-image values, pooled confusion counts.

    The vector is float64 [1 + 6 P + 9 P]: the images, the six sums of each plane, the nine counts of each
    plane. Adding the vectors of two disjoint sets of images gives the vector of their union, exactly.
    """

    def __init__(self, planes: int) -> None:
        self._vector = np.zeros(1 + planes * (len(METRICS) + CELLS))
        pooled = 1 + planes * len(METRICS)
        # Views: what is added to them stands in the vector.
        self._sums = self._vector[1:pooled].reshape(planes, len(METRICS))
        self._pooled = self._vector[pooled:].reshape(planes, CLASSES, CLASSES)

    @classmethod
    def from_vector(cls, vector: npt.NDArray[np.float64], planes: int) -> "MetricSums":
        """Make the sums that `vector` holds, as `to_vector` wrote it or as ranks have added it."""
        sums = cls(planes)
        sums._vector += vector
        return sums

    def to_vector(self) -> npt.NDArray[np.float64]:
        """Copy the sums into one flat float64 array."""
        return self._vector.copy()

    @property
    def images(self) -> int:
        """Images counted; padding is not."""
        return int(self._vector[0])

    def add(self, confusion: Tensor | npt.NDArray[Any], valid: Tensor | npt.NDArray[np.bool_] | None = None) -> None:
        """Count the images of `confusion` [N, P, 3, 3], of which `valid` [N] leaves out the padding."""
        counts = _array(confusion)
        if valid is not None:
            counts = counts[_array(valid)]
        values = np.rint(metric_values(counts) / RESOLUTION) * RESOLUTION
        self._vector[0] += len(counts)
        self._sums += values.sum(axis=0)
        self._pooled += counts.sum(axis=0)

    def means(self) -> dict[str, Any]:
        """Average over images: the six metrics over all planes, and again under ``plane0`` … for each plane.

        ``images`` counts the images. ``pooled`` holds the same six from the counts of all images together
        (of all planes, and of each), where large images weigh more and an image without a neutrino adds
        nothing to the neutrino metrics. Raises ValueError when no image was counted.
        """
        if not self.images:
            raise ValueError("no image has been counted")
        pooled = self._pooled
        return {
            "images": self.images,
            **_by_plane((self._sums / self.images).mean(axis=0), self._sums / self.images),
            "pooled": _by_plane(metric_values(pooled.sum(axis=0)), metric_values(pooled)),
        }


def _by_plane(all_planes: Values, planes: Values) -> dict[str, Any]:
    return named(all_planes) | {f"plane{plane}": named(values) for plane, values in enumerate(planes)}


def _array(values: Tensor | npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else values
