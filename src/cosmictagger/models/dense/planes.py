"""Where the planes of dense features lie: in the batch axis (folded) or in the channel axis (side by side)."""

import torch
from torch import Tensor
from torch.nn import functional as F


def side_by_side(folded: Tensor, nplanes: int, channels_last: bool) -> Tensor:
    """[N × P, C, H, W] → [N, P × C, H, W], in the memory format asked for."""
    planes = folded.reshape(-1, nplanes, *folded.shape[1:])
    if channels_last:
        return planes.permute(0, 3, 4, 1, 2).flatten(3, 4).permute(0, 3, 1, 2)
    return planes.flatten(1, 2)


def fold(merged: Tensor, nplanes: int, channels_last: bool) -> Tensor:
    """[N, P × C, H, W] → [N × P, C, H, W], in the memory format asked for."""
    planes = merged.reshape(merged.shape[0], nplanes, -1, *merged.shape[2:])
    if channels_last:
        return planes.permute(0, 1, 3, 4, 2).flatten(0, 1).permute(0, 3, 1, 2)
    return planes.flatten(0, 1)


def banded(kernel: Tensor, nplanes: int) -> Tensor:
    """Write a kernel across planes [O, I, D, k, k] as one between planes side by side [P × O, P × I, k, k].

    Plane q reaches plane p by the kernel's tap q - p + D // 2, or not at all.
    """
    missing = nplanes - 1 - kernel.shape[2] // 2
    taps = F.pad(kernel, (0, 0, 0, 0, missing, missing)).transpose(1, 2)
    rows = [taps[:, nplanes - 1 - plane : 2 * nplanes - 1 - plane] for plane in range(nplanes)]
    outputs, inputs, _, height, width = kernel.shape
    return torch.stack(rows).reshape(nplanes * outputs, nplanes * inputs, height, width)
