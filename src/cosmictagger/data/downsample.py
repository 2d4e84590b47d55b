"""Orders the pixels of a plane for dense images, and pools them over blocks, exactly as larcv does.

larcv files number pixels wire by wire, dense images tick by tick. Here `position` is the number of a pixel in a
row-major image of `shape` (rows, columns); the transposed image has column * rows + row.
"""

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

from cosmictagger.errors import UserError

RADIX_LIMIT = 1 << 16  # numpy sorts 16-bit keys by radix, which beats comparisons several times
LONG_RUN = 64  # above, adding pixel by pixel beats adding the n-th pixels of all blocks together


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Pixels grouped into the pixels of the transposed, downsampled image.

    `order` [pixels] sorts the pixels by block, keeping the given order within a block; `starts` [blocks] is
    where each block begins in that order; `index` [blocks] (int32) its place in the image, ascending.
    """

    order: npt.NDArray[np.intp]
    starts: npt.NDArray[np.intp]
    index: npt.NDArray[np.int32]
    side: int

    def average(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Average values over blocks, absent pixels counting as 0; values of equal pixels are summed.

        Bit-equal to larcv: float32 additions in the given order, then one division.
        """
        ordered = values[self.order]
        if len(self.starts) == len(ordered):
            return ordered if self.side == 1 else ordered / np.float32(self.side**2)
        sums = _sum_in_order(ordered, self.starts)
        sums /= np.float32(self.side**2)
        return sums

    def maximum(self, labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Take the largest label of each block."""
        ordered = labels[self.order]
        return ordered if len(self.starts) == len(ordered) else np.maximum.reduceat(ordered, self.starts)


def group(position: npt.NDArray[np.int32], shape: tuple[int, int], downsample: int = 0) -> Blocks:
    """Group pixels by blocks of 2^downsample × 2^downsample in the transposed image.

    `shape` is (rows, columns) before transposing; both must be multiples of the block's side.
    """
    rows, columns = shape
    row = position // columns
    column = (position - row * columns) >> downsample
    target = column * (rows >> downsample) + (row >> downsample)
    if columns >> downsample <= RADIX_LIMIT and (position[1:] >= position[:-1]).all():
        # Ascending positions are sorted by row already, and a stable sort by column keeps that.
        order = np.argsort(column.astype(np.uint16), kind="stable")
    else:
        order = np.argsort(target, kind="stable")
    target = target[order]
    starts = np.flatnonzero(np.diff(target, prepend=-1))
    if len(starts) < len(target):
        target = target[starts]
    return Blocks(order, starts, target, 1 << downsample)


def downsampled_shape(shape: tuple[int, int], downsample: int) -> tuple[int, int]:
    """Give (ticks, wires) after halving `downsample` times; UserError where a side cannot be halved that often."""
    ticks, wires = shape
    side = 1 << downsample
    if ticks % side or wires % side:
        possible = [k for k in range(downsample) if not ticks % (1 << k) and not wires % (1 << k)]
        raise UserError(
            f"--downsample: images of {ticks} ticks x {wires} wires cannot be halved {downsample} times; "
            f"take {' or '.join(map(str, possible))}."
        )
    return ticks // side, wires // side


def match(index: npt.NDArray[Any], other: npt.NDArray[Any]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_]]:
    """Find the elements of `other` in `index`, both ascending: places in `index`, valid where the mask is true."""
    if not len(index):
        return np.zeros(len(other), np.intp), np.zeros(len(other), np.bool_)
    places = np.minimum(np.searchsorted(index, other), len(index) - 1)
    return places, index[places] == other


def _sum_in_order(values: npt.NDArray[np.float32], starts: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Sum runs of `values`, each strictly from left to right (np.add.reduceat adds pairwise, larcv does not)."""
    lengths = np.diff(starts, append=len(values))
    if lengths.max() > LONG_RUN:
        sums = np.zeros(len(starts), np.float32)
        np.add.at(sums, np.repeat(np.arange(len(starts)), lengths), values)
        return sums
    sums = values[starts]
    done = 1
    open_runs = np.flatnonzero(lengths > done)
    while len(open_runs):
        sums[open_runs] += values[starts[open_runs] + done]
        done += 1
        open_runs = open_runs[lengths[open_runs] > done]
    return sums
