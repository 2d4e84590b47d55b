"""The dense vocabulary of a sparse network's deepest level, with convolutions that suit small images on CPUs.

Where the planes meet, images of some hundred pixels have hundreds of channels. With many channels in float32 there are
fewer numbers to multiply than PyTorch's convolution multiplies (`winograd`). In 16 bits a matrix product over unfolded images
(`unfolded`) comes close to the speed of a CPU's matrix units, of which oneDNN's convolution reached a fifth.
"""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from cosmictagger.models.dense.parts import Convolution, PlaneMixing
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.sparse import unfolded, winograd

PIXELS = 1024  # of a product, roughly: unfolded, each takes a number for every channel and tap


class MergedVocabulary(DenseVocabulary):
    """A `DenseVocabulary` whose square convolutions may be products of matrices on CPUs."""

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a convolution that keeps height and width."""
        if self.layout.volumetric:
            return Mixing(self.layout, inputs, outputs, size, bias, self.channels_last)
        if size == 1:
            return self.pointwise(inputs, outputs, bias)
        return ProductConvolution(self.layout, inputs, outputs, self.layout.kernel(size), bias)

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


class ProductConvolution(Convolution):
    """Convolution of odd size that keeps height and width: [N, I, H, W] → [N, O, H, W]."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        dtype = computing_type(self.weight)
        features = features.to(dtype)
        way = product_of(features, self.weight.to(dtype))
        if way is None:
            return super().forward(features)
        convolved = multiplied(features, self.weight.to(dtype), way)
        return convolved if self.bias is None else convolved + self.bias.to(dtype)[:, None, None]


def product_of(images: Tensor, weight: Tensor) -> ModuleType | None:
    """Choose the products that beat PyTorch's convolution; None where none do (benchmarks/deepest.py)."""
    if images.device.type != "cpu":
        return None
    if winograd.suits(images, weight):
        return winograd
    return unfolded if images.dtype.itemsize == 2 else None


def multiplied(images: Tensor, weight: Tensor, way: ModuleType) -> Tensor:
    """Convolve by products: images [N, I, H, W], weight [O, I, k, k] → [N, O, H, W]."""
    convolved: Tensor = _Convolution.apply(images, weight, way)  # type: ignore[no-untyped-call]
    return convolved


class _Convolution(torch.autograd.Function):
    """What a way makes of the images is not kept for the way back."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, way: ModuleType) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.way = way
        convolved: Tensor = way.convolve(image_groups(images), weight)
        return convolved

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        by_images = by_weight = None
        if ctx.needs_input_grad[0]:
            by_images = ctx.way.by_images(image_groups(slope), weight)
        if ctx.needs_input_grad[1]:
            by_weight = ctx.way.by_weight(image_groups(images), image_groups(slope), weight.shape[-1])
        return by_images, by_weight, None


def image_groups(images: Tensor) -> tuple[Tensor, ...]:
    """Cut a batch into the images of one product."""
    groups: tuple[Tensor, ...] = torch.split(images, max(1, PIXELS // images[0, 0].numel()))
    return groups
