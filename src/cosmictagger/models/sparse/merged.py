"""The dense vocabulary of a sparse network's deepest level, with a convolution that suits small images on CPUs.

Where the planes meet, images of some hundred pixels have hundreds of channels. oneDNN's convolutions reach a fifth
of a CPU's speed there; a matrix product over unfolded images comes close to it, and in bfloat16 close to that of
the matrix units. With many channels in float32 there are fewer numbers to multiply (`winograd`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cosmictagger.models.dense.parts import Convolution, PlaneMixing
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.sparse import winograd

PIXELS = 1024  # of a product, roughly: unfolded, each takes a number for every channel and tap


class MergedVocabulary(DenseVocabulary):
    """A `DenseVocabulary` whose square convolutions unfold images on CPUs."""

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a convolution that keeps height and width."""
        if self.layout.volumetric:
            return Mixing(self.layout, inputs, outputs, size, bias, self.channels_last)
        if size == 1:
            return self.pointwise(inputs, outputs, bias)
        return UnfoldedConvolution(self.layout, inputs, outputs, self.layout.kernel(size), bias)

    def pointwise(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 1×1 convolution."""
        return Pointwise(self.layout, inputs, outputs, self.layout.point(), bias)


def computing_type(weight: Tensor) -> torch.dtype:
    """Choose the type to compute in: that of autocast, or of the weights. Engines may give values of another."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


class Pointwise(Convolution):
    """1×1 convolution of features of any type."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(features.to(computing_type(self.weight)))


class Mixing(PlaneMixing):
    """3D convolution across the planes, of features of any type."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return super().forward(features.to(computing_type(self.weight)))


class UnfoldedConvolution(Convolution):
    """Convolution of odd size that keeps height and width: [N, I, H, W] → [N, O, H, W]."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        dtype = computing_type(self.weight)
        if features.device.type != "cpu":
            return super().forward(features.to(dtype))
        convolved: Tensor = _Convolution.apply(features.to(dtype), self.weight.to(dtype))  # type: ignore[no-untyped-call]
        return convolved if self.bias is None else convolved + self.bias.to(dtype)[:, None, None]


class _Convolution(torch.autograd.Function):
    """Images [N, I, H, W], weight [O, I, k, k] → [N, O, H, W]; images are unfolded again on the way back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        if winograd.suits(images, weight):
            return winograd.convolve(_groups(images), weight)
        return _convolve(_groups(images), weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None]:
        images, weight = ctx.saved_tensors
        groups, slopes, size = _groups(images), _groups(slope), weight.shape[-1]
        by_images = by_weight = None
        if winograd.suits(images, weight):
            if ctx.needs_input_grad[0]:
                by_images = winograd.by_images(slopes, weight)
            if ctx.needs_input_grad[1]:
                by_weight = winograd.by_weight(groups, slopes, size)
        else:
            if ctx.needs_input_grad[0]:
                by_images = _convolve(slopes, weight.flip(2, 3).transpose(0, 1))
            if ctx.needs_input_grad[1]:
                by_weight = _correlate(groups, slopes, size)
        return by_images, by_weight


def _convolve(groups: Sequence[Tensor], weight: Tensor) -> Tensor:
    flat = weight.reshape(len(weight), -1)
    convolved = [flat @ _unfold(group, weight.shape[-1]) for group in groups]
    shape = groups[0].shape[2:]
    return torch.cat([rows.view(len(weight), -1, *shape).transpose(0, 1) for rows in convolved])


def _correlate(groups: Sequence[Tensor], slopes: Sequence[Tensor], size: int) -> Tensor:
    inputs, outputs = groups[0].shape[1], slopes[0].shape[1]
    by_weight = groups[0].new_zeros(outputs, inputs * size * size)
    for group, rows in zip(groups, slopes, strict=True):
        by_weight.addmm_(rows.flatten(2).transpose(0, 1).flatten(1), _unfold(group, size).t())
    return by_weight.view(outputs, inputs, size, size)


def _groups(images: Tensor) -> tuple[Tensor, ...]:
    """Cut a batch into the images of one product."""
    groups: tuple[Tensor, ...] = torch.split(images, max(1, PIXELS // images[0, 0].numel()))
    return groups


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
