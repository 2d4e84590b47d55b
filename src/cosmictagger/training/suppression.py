"""Leave out noise before the network sees it: of the noise of SBND events, half stands alone, and a third in pairs.

A pixel is kept where the charge of its 3 × 3 surroundings, itself included, comes to a threshold. Most faint pixels of a
track have bright neighbours, and stay.
"""

import dataclasses
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from cosmictagger.data.batch import PADDING, Records
from cosmictagger.metrics.confusion import CLASSES
from cosmictagger.models.sparse.tables import Builder, best_builder

Value = TypeVar("Value", bound=np.generic)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """The pixels of a batch, slot by slot as in its records, but with no more slots than the fullest plane needs."""

    index: npt.NDArray[np.int32]  # [N, P, V]
    value: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8]
    used: npt.NDArray[np.bool_]  # which slots hold a pixel: the first of each plane

    @property
    def counts(self) -> npt.NDArray[np.int32]:
        """Pixels of each plane [N, P]."""
        counts: npt.NDArray[np.int32] = self.used.sum(axis=2, dtype=np.int32)
        return counts

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Pixels":
        """Keep the pixels of the slots `chosen` [N, P, V]."""
        counts = chosen.sum(axis=2, dtype=np.int32)
        used = _first(counts)

        def moved_up(values: npt.NDArray[Value], empty: int) -> npt.NDArray[Value]:
            result = np.full(used.shape, empty, values.dtype)
            result[used] = values[chosen]
            return result

        index, value, label = moved_up(self.index, PADDING), moved_up(self.value, 0), moved_up(self.label, 0)
        return Pixels(index=index, value=value, label=label, used=used)

    def count_labels(self, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Count the pixels of the slots `chosen` by label: [N, P, 3]."""
        return np.stack([(chosen & (self.label == kind)).sum(axis=2) for kind in range(CLASSES)], axis=2)


def pixels_of(records: Records) -> Pixels:
    """Take the pixels out of records; the arrays are views of them."""
    used = _first(records["count"])
    index, value, label = (records[name][:, :, : used.shape[2]] for name in ("index", "value", "label"))
    return Pixels(index=index, value=value, label=label, used=used)


def above_threshold(
    pixels: Pixels, shape: tuple[int, int], threshold: float, builder: Builder | None = None
) -> npt.NDArray[np.bool_]:
    """Tell which slots hold a pixel in whose 3 × 3 surroundings there is a charge of `threshold` or more: [N, P, V].

    Charge is that of the records, before any transform, and `shape` is (ticks, wires). `builder` finds the neighbours
    [the fastest that works here].
    """
    builder = builder or best_builder()
    counts = pixels.counts.reshape(-1)
    plane = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    index = np.ascontiguousarray(pixels.index[pixels.used])
    sums = builder.surrounding_sums(plane, index, len(counts), shape, np.ascontiguousarray(pixels.value[pixels.used]))
    result = np.zeros_like(pixels.used)
    result[pixels.used] = sums >= threshold
    return result


def _first(counts: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    used: npt.NDArray[np.bool_] = np.arange(int(counts.max(initial=0))) < counts[:, :, None]
    return used
