"""Where wires of three planes cross: what a point in space has in common in its three images.

Charge at a point is seen at one tick, by one wire of each plane. The wires of two planes cross in a point, and so say
which wire of the third one passes there: wire 0 + wire 1 - wire 2 is a constant of the detector (for planes at ±60° to
the third, in units of equal wire spacing).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PLANES = 3
# Of SBND, in wires: both induction planes count from the same end of the beam, planes 0 and 1 from opposite heights.
SBND_OFFSET = 1024.7


def offset_of_pixels(offset: float, halvings: int) -> float:
    """Turn wire 0 + wire 1 - wire 2 into that of pixels which are each 2^halvings wires wide, on average.

    Wires that cross miss the nearest whole number by 1 pixel at most.
    """
    size = 1 << halvings
    return (offset - (size - 1) / 2) / size


def crossing_maximum(values: Tensor, offset: int) -> Tensor:
    """Find for each pixel the crossing of its wire at its tick where the other two planes have most.

    `values` [N, 3, C, H, W] are nowhere negative. Returns for each pixel and channel the smaller of the two values there,
    in the same shape; 0 where no wires cross. Wires cross where wire 0 + wire 1 - wire 2 is `offset` or differs from it by
    1. (Of the third wire that a crossing may be given away by 1 either way: where the wire in the middle lies outside the
    image, its neighbours are not looked at. For planes 0 and 1 that is plane 2, for plane 2 it is plane 1.)
    """
    result: Tensor = _CrossingMaximum.apply(values, offset)  # type: ignore[no-untyped-call]
    return result


class _CrossingMaximum(torch.autograd.Function):
    """Remembers of each result whose value it is: that one gets the slope."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, offset: int) -> Tensor:
        width = values.shape[4]
        first, second, third = (values[:, plane] for plane in range(PLANES))
        near_second, near_third = _widened(second, width), _widened(third, 2 * width)
        numbers = torch.arange(width, device=values.device)
        found = [
            _most(second, numbers + width, near_third, lambda wire: wire - offset),
            _most(first, numbers, near_third, lambda wire: wire - offset),
            _most(first, numbers, near_second, lambda wire: offset - wire),
        ]
        ctx.save_for_backward(torch.stack([source for _, source in found], dim=1))
        return torch.stack([best for best, _ in found], dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:
        (source,) = ctx.saved_tensors
        images, planes, channels, height, width = slope.shape
        flat = (images, channels, height, planes * width)
        source, slope = (part.permute(0, 2, 3, 1, 4).reshape(flat) for part in (source, slope))
        # Sums of many 16-bit numbers lose their last ones, so they are added up in 32 bits or more.
        wide = (slope * (source >= 0)).to(torch.promote_types(slope.dtype, torch.float32))
        result = wide.new_zeros(flat).scatter_add(3, source.clamp(min=0), wide).to(slope.dtype)
        return result.view(images, channels, height, planes, width).permute(0, 3, 1, 2, 4), None


def _widened(plane: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Take the largest of three wires side by side, and its number, counted from `first`: [N, C, H, W] each.

    Of equal ones the first has it.
    """
    width = plane.shape[3]
    numbers = torch.arange(first, first + width, device=plane.device).expand_as(plane)
    best, source = torch.full_like(plane, -1), numbers.clone()
    for step in (-1, 0, 1):
        here, there = slice(max(-step, 0), width + min(-step, 0)), slice(max(step, 0), width + min(step, 0))
        better = plane[..., there] > best[..., here]
        best[..., here] = torch.where(better, plane[..., there], best[..., here])
        source[..., here] = torch.where(better, numbers[..., there], source[..., here])
    return best, source


def _most(
    other: Tensor, numbers: Tensor, near: tuple[Tensor, Tensor], shift: Callable[[int], int]
) -> tuple[Tensor, Tensor]:
    """Go through the wires of one plane; `near`, of the other, is `shift` wires further on than the pixels looked at."""
    width = other.shape[3]
    best, source = torch.zeros_like(other), torch.full(other.shape, -1, dtype=torch.int64, device=other.device)
    for wire in range(width):
        step = shift(wire)
        start, end = max(0, -step), min(width, width - step)
        if start >= end:
            continue
        value, there = other[..., wire : wire + 1], slice(start + step, end + step)
        less = torch.minimum(value, near[0][..., there])
        owner = torch.where(value <= near[0][..., there], numbers[wire], near[1][..., there])
        better = less > best[..., start:end]
        best[..., start:end] = torch.where(better, less, best[..., start:end])
        source[..., start:end] = torch.where(better, owner, source[..., start:end])
    return best, source
