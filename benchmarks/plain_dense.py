"""The peer: a dense UResNet computed as the field's own PyTorch code does, planes one after another, channels first.

The same parameters and the same results as this project's dense network (but for normalization, which takes
its statistics of each plane apart); nothing is folded, and no memory format is chosen.
"""

import dataclasses

import torch
from torch import Tensor, nn

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.parameters import Layout, Statistics
from cosmictagger.models.uresnet import UResNet

Planes = tuple[Tensor, ...]  # for each plane [N, C, H, W]


class EachPlane(nn.Module):
    """Applies a dense layer to one plane after the other; its parameters keep their names."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Planes, shortcut: Planes | None = None) -> Planes:
        """Features of every plane → features of every plane."""
        if shortcut is None:
            return tuple(self.layer(plane) for plane in features)
        return tuple(self.layer(plane, added) for plane, added in zip(features, shortcut, strict=True))

    def get_parameter(self, target: str) -> nn.Parameter:
        """Return a parameter of the layer."""
        return self.layer.get_parameter(target)


@dataclasses.dataclass(frozen=True)
class PlainVocabulary(DenseVocabulary):
    """Features are tuples of the planes' tensors."""

    channels_last: bool = False

    def enter(self, images: Tensor) -> Planes:
        """Take the planes apart."""
        return images.split(1, dim=1)

    def leave(self, features: Planes) -> Tensor:
        """Put the planes' logits together."""
        return torch.stack(features, dim=1)

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a convolution."""
        return EachPlane(super().convolution(inputs, outputs, size, bias))

    def pointwise(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 1×1 convolution."""
        return EachPlane(super().pointwise(inputs, outputs, bias))

    def reduction(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 2×2 convolution of stride 2."""
        return EachPlane(super().reduction(inputs, outputs, bias))

    def expansion(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a transposed 2×2 convolution of stride 2."""
        return EachPlane(super().expansion(inputs, outputs, bias))

    def activation(self, channels: int, statistics: Statistics | None) -> nn.Module:
        """Make normalization and ReLU, of one plane."""
        alone = DenseVocabulary(dataclasses.replace(self.layout, nplanes=1), self.channels_last)
        return EachPlane(alone.activation(channels, statistics))

    def pool(self, features: Planes) -> Planes:
        """Take the maximum over 2×2 blocks."""
        return tuple(map(super().pool, features))

    def unpool(self, features: Planes) -> Planes:
        """Copy each pixel into a 2×2 block."""
        return tuple(map(super().unpool, features))

    def add(self, first: Planes, second: Planes) -> Planes:
        """Add two features."""
        return tuple(one + other for one, other in zip(first, second, strict=True))

    def concatenate(self, first: Planes, second: Planes) -> Planes:
        """Concatenate the channels of each plane."""
        return tuple(torch.cat(pair, dim=1) for pair in zip(first, second, strict=True))

    @property
    def merged(self) -> DenseVocabulary:
        """Where the planes are together, there is but one tensor."""
        return DenseVocabulary(dataclasses.replace(self.layout, merged=True), channels_last=False)

    def merge(self, features: Planes) -> Tensor:
        """Put the planes' channels side by side."""
        return torch.cat(features, dim=1)

    def split(self, merged: Tensor, like: Planes) -> Planes:
        """Take the planes apart again."""
        return merged.chunk(len(like), dim=1)


def plain_network(config: NetworkConfig, nplanes: int) -> UResNet:
    """Make the network."""
    return UResNet(config, PlainVocabulary(Layout(nplanes=nplanes, volumetric=False, shared=True)))
