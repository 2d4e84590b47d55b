"""Look at each image several times, each time moved by some pixels, and average what the network says.

Where a pixel lies in its blocks of 2 × 2, 4 × 4 and so on is chance, and so is a part of what a network says about it.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from cosmictagger.data.batch import PADDING, Records, allocate, image_dtype
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch, Unpack
from cosmictagger.training.evaluation import Evaluated
from cosmictagger.training.precision import Precision

# Ticks, and wires of the first and of the second plane, by which a view moves at most: what leaves the image is not seen.
FARTHEST = (8, 6, 6)
# Multiples of these, modulo the number of offsets there are, spread evenly over them, and over even and odd ones.
_STRIDES = (11, 5, 7)


@dataclasses.dataclass(frozen=True)
class View:
    """An image with its ticks in reverse if `mirrored`, and then moved by `ticks` and wires.

    The first two planes move by their number of `wires`, and a third by both together: so wires that cross in a point go
    on doing so (see `models.crossings`).
    """

    mirrored: bool
    ticks: int
    wires: tuple[int, int]

    def of_planes(self, planes: int) -> npt.NDArray[np.int32]:
        """List the wires by which each of so many planes moves."""
        steps = np.full(planes, self.wires[0], np.int32)
        known = (*self.wires, sum(self.wires))[:planes]
        steps[: len(known)] = known
        return steps


def further_views(count: int, mirror: bool) -> list[View]:
    """List the views of `--views` beyond the image as it is; with `mirror` every second one is mirrored."""
    views = []
    for number in range(1, count):
        ticks, first, second = (
            number * stride % (2 * farthest + 1) - farthest for stride, farthest in zip(_STRIDES, FARTHEST, strict=True)
        )
        views.append(View(mirror and number % 2 == 1, ticks, (first, second)))
    return views


def moved(records: Records, view: View, shape: tuple[int, int]) -> tuple[Records, npt.NDArray[np.int64]]:
    """Give the records of a batch as a view sees them, and for each of their pixels, in order, where it came from.

    Pixels are numbered through the batch, plane by plane. `shape`: (ticks, wires) of an image.
    """
    height, width = shape
    counts: npt.NDArray[np.int64] = records["count"].astype(np.int64)
    slots = int(counts.max(initial=0))  # a view has as many at most: its records need not be as large as those read
    index, value, label = (records[name][:, :, :slots] for name in ("index", "value", "label"))
    tick, wire = np.divmod(index, np.int32(width))
    if view.mirrored:
        tick = height - 1 - tick
    tick, wire = tick + view.ticks, wire + view.of_planes(counts.shape[1])[:, None]
    kept = (index != PADDING) & (tick >= 0) & (tick < height) & (wire >= 0) & (wire < width)
    place = np.where(kept, tick * width + wire, height * width)
    order = np.argsort(place, axis=-1, kind="stable")
    seen = allocate(len(records), image_dtype(counts.shape[1], slots))
    for name in ("entry", "event_id"):
        seen[name] = records[name]
    seen["count"] = kept.sum(axis=-1)
    present = np.take_along_axis(kept, order, axis=-1)
    for name, values, empty in (("index", place, PADDING), ("value", value, 0), ("label", label, 0)):
        seen[name] = np.where(present, np.take_along_axis(values, order, axis=-1), empty)
    first = (np.cumsum(counts) - counts.reshape(-1)).reshape(counts.shape)
    return seen, (first[:, :, None] + order)[present]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewAverage:
    """Averages the probabilities that a sparse network gives to each pixel over the image as it is and `views` of it."""

    network: nn.Module
    unpack: Unpack
    precision: Precision
    clocks: Clocks
    shape: tuple[int, int]
    views: list[View]

    def __call__(self, evaluated: Evaluated) -> Evaluated:
        """Take the logits of a batch [S, 3] to the logarithm of the average probabilities."""
        total = torch.softmax(evaluated.logits.float(), dim=1)
        times = torch.ones(len(total), 1, device=total.device)
        rows = _rows(evaluated.batch, len(total))
        for view in self.views:
            with self.clocks.measure("unpack"):
                records, origin = moved(evaluated.records, view, self.shape)
                batch = self.unpack(records)
            with torch.inference_mode(), self.precision.autocast(), self.clocks.measure("forward"):
                logits: Tensor = self.network(batch.inputs)
                row = torch.from_numpy(rows[origin if batch.kept is None else origin[batch.kept]])
                # Sums in another order may, by a rounding, keep in a view a pixel that is left out of the image.
                known = (row >= 0).to(total.device)
                row = row.to(total.device)[known]
                total[row] += torch.softmax(logits.float(), dim=1)[known]  # a view sees no pixel twice
                times[row] += 1
        average = (total / times).clamp_min(torch.finfo(torch.float32).tiny)
        return evaluated._replace(logits=average.log())


def _rows(batch: Batch, active: int) -> npt.NDArray[np.int64]:
    """Number, for all pixels of the records in turn, their row among the `active` ones; -1 where a pixel is not active."""
    rows = np.arange(active)
    if batch.kept is None:
        return rows
    found = np.full(len(batch.kept), -1)
    found[batch.kept] = rows
    return found
