"""Convolution of small images as one product of matrices, over the pixels under each tap."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(groups: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Convolve images, cut into groups [n, I, H, W] of one product each, by a weight [O, I, k, k]: [N, O, H, W]."""
    flat, shape = weight.reshape(len(weight), -1), groups[0].shape[2:]
    convolved = [flat @ _unfold(images, weight.shape[-1]) for images in groups]
    return torch.cat([rows.view(len(weight), -1, *shape).transpose(0, 1) for rows in convolved])


def by_images(groups: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Take the slopes of the results to those of the images: a convolution by the flipped, transposed weight."""
    return convolve(groups, weight.flip(2, 3).transpose(0, 1))


def by_weight(groups: Sequence[Tensor], slopes: Sequence[Tensor], size: int) -> Tensor:
    """Take the slopes of the results, cut like the images, to those of the weight [O, I, k, k]."""
    outputs, inputs = slopes[0].shape[1], groups[0].shape[1]
    result = groups[0].new_zeros(outputs, inputs * size * size)
    for images, slope in zip(groups, slopes, strict=True):
        result.addmm_(slope.flatten(2).transpose(0, 1).flatten(1), _unfold(images, size).t())
    return result.view(outputs, inputs, size, size)


def _unfold(images: Tensor, size: int) -> Tensor:
    """[N, I, H, W] → the pixels under each tap [I × k × k, N × H × W], as F.unfold does in three times the time.

    The images lie side by side: products with so few pixels as one of them may have would not fill the processor.
    """
    reach = size // 2
    padded = F.pad(images, (reach, reach, reach, reach)).transpose(0, 1).contiguous()
    channel, image, row, column = padded.stride()
    number, channels, height, width = len(images), *images.shape[1:]
    shape = (channels, size, size, number, height, width)
    taps = padded.as_strided(shape, (channel, row, column, image, row, column))
    return taps.reshape(channels * size * size, -1)
