"""Where wires of three planes cross: what a point in space has in common in its three images.

Charge at a point is seen at one tick, by one wire of each plane. The wires of two planes cross in a point, and so say
which wire of the third one passes there: wire 0 + wire 1 - wire 2 is a constant of the detector (for planes at ±60° to
the third, in units of equal wire spacing).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PLANES = 3


def offset_of_level(offset: float, level: int) -> int:
    """Round wire 0 + wire 1 - wire 2 for the pixels of a level, each as wide as 2^level pixels of the image.

    `offset` is that of the image. As pixels are wide, wires that cross may miss it by 1.
    """
    size = 1 << level
    return round((offset - (size - 1) / 2) / size)


def crossing_maximum(values: Tensor, offset: int) -> Tensor:
    """Find for each pixel the crossing of its wire at its tick where the other two planes have most.

    What two planes have is the smaller of their values. `values` [N, 3, C, H, W], nowhere negative; wires cross where
    wire 0 + wire 1 - wire 2 is `offset`, or differs from it by 1 (at an edge, where the wire in the middle of the three
    that do lies in the image). Returns the same shape, 0 where no wires cross.
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
        result = slope.new_zeros(flat).scatter_add(3, source.clamp(min=0), slope * (source >= 0))
        return result.view(images, channels, height, planes, width).permute(0, 3, 1, 2, 4), None


def _widened(plane: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """Take the largest of three wires side by side, and its number, counted from `first`: [N, C, H, W] each."""
    best, source = plane, torch.arange(first, first + plane.shape[3], device=plane.device).expand_as(plane)
    numbers = source
    for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
        value, number = best.clone(), source.clone()
        better = plane[..., there] > best[..., here]
        value[..., here] = torch.where(better, plane[..., there], best[..., here])
        number[..., here] = torch.where(better, numbers[..., there], source[..., here])
        best, source = value, number
    return best, source


def _most(other: Tensor, numbers: Tensor, near: tuple[Tensor, Tensor], shift: Any) -> tuple[Tensor, Tensor]:
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
