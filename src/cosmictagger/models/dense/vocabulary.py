"""The dense vocabulary of the UResNet, on plain PyTorch operations.

Features are 4-D tensors, so that every operation is a 2D one:

* weights shared between planes: the planes lie in the batch axis, [N × P, C, H, W];
* weights of their own: the planes lie in the channel axis, plane-major, [N, P × C, H, W], and convolutions
  are grouped (1.5 times as fast as a convolution for each plane in turn);
* planes merged in a 2D network: [N, P × C, H, W], convolutions over all channels;
* planes merged in a 3D network: [N × P, C, H, W] again; only the convolution sees the axis of the planes.

With `channels_last` all of them stay in that memory format from the first convolution to the logits, and the
weights are stored in it: on one core a training step of `a21` takes about 0.6 of the time of `channels_first` in
float32 and 0.75 in bfloat16, while features in that format with weights outside it gain little or lose.
"""

import dataclasses
import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmictagger.models.crossings import crossing_maximum
from cosmictagger.models.dense import parts, planes
from cosmictagger.models.parameters import Layout, Statistics
from cosmictagger.models.vocabulary import Layers, one_by_one


@dataclasses.dataclass(frozen=True)
class DenseVocabulary:
    """Makes the parts of a dense UResNet; see `models.vocabulary.Vocabulary` for its methods."""

    layout: Layout
    channels_last: bool = True

    @property
    def nplanes(self) -> int:
        """Planes of an image."""
        return self.layout.nplanes

    def enter(self, images: Tensor) -> Tensor:
        """Images [N, P, H, W] → features of one channel."""
        n, nplanes, height, width = images.shape
        if not self.layout.shared:
            return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images
        if not self.channels_last:
            return images.reshape(n * nplanes, 1, height, width)
        # Strides decide the memory format of the first convolution's output, and those of a single channel
        # are ambiguous; made this way they say channels_last.
        return images.reshape(n * nplanes, height, width, 1).permute(0, 3, 1, 2)

    def leave(self, features: Tensor) -> Tensor:
        """Features of one channel a class → logits [N, P, classes, H, W]."""
        folded = self.layout.shared
        n = features.shape[0] // self.layout.nplanes if folded else features.shape[0]
        return features.reshape(n, self.layout.nplanes, -1, *features.shape[2:])

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a convolution that keeps height and width."""
        if self.layout.volumetric and self.layout.merged:
            return parts.PlaneMixing(self.layout, inputs, outputs, size, bias, self.channels_last)
        return parts.Convolution(self.layout, inputs, outputs, self.layout.kernel(size), bias)

    def pointwise(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 1×1 convolution."""
        return parts.Convolution(self.layout, inputs, outputs, self.layout.point(), bias)

    def reduction(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 2×2 convolution of stride 2."""
        return parts.Reduction(self.layout, inputs, outputs, self.layout.point(2), bias)

    def expansion(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a transposed 2×2 convolution of stride 2."""
        return parts.Expansion(self.layout, inputs, outputs, bias)

    def activation(self, channels: int, statistics: Statistics | None) -> nn.Module:
        """Make normalization (where asked for) and ReLU."""
        return parts.Normalization(self.layout, channels, statistics) if statistics else parts.Rectification()

    def block(self, features: Tensor, layers: Layers, *, residual: bool) -> Tensor:
        """Compute the parts of a block in turn."""
        result: Tensor = one_by_one(features, layers, residual=residual)
        return result

    def settle(self, features: Tensor) -> Tensor:
        """Return the features, which have been computed."""
        return features

    def pool(self, features: Tensor) -> Tensor:
        """Take the maximum over 2×2 blocks."""
        return F.max_pool2d(features, 2)

    def unpool(self, features: Tensor) -> Tensor:
        """Copy each pixel into a 2×2 block."""
        return F.interpolate(features, scale_factor=2.0, mode="nearest")

    def tick_maximum(self, features: Tensor) -> Tensor:
        """Take the maximum over the wires of each tick: [N, P × C, height]."""
        side_by_side = features.shape[1] * (self.layout.nplanes if self.layout.folded else 1)
        return features.amax(dim=3).reshape(-1, side_by_side, features.shape[2])

    def add_to_ticks(self, features: Tensor, rows: Tensor) -> Tensor:
        """Add rows [N, P × C, height] to all wires of each tick."""
        return features + rows.reshape(features.shape[:3]).to(features.dtype)[..., None]

    def crossing_maximum(self, features: Tensor, offset: int) -> Tensor:
        """Find the crossing of each pixel's wire where the other two planes have most."""
        planes = self.layout.nplanes
        channels = features.shape[1] // (1 if self.layout.folded else planes)
        images = features.reshape(-1, planes, channels, *features.shape[2:])
        return crossing_maximum(images, offset).reshape(features.shape)

    def presence_loss(self, told: Tensor, present: Tensor) -> Tensor:
        """Average the binary cross-entropy over all pixels of each image."""
        loss = F.binary_cross_entropy_with_logits(told.float(), present.float(), reduction="none")
        return loss.reshape(len(loss) // (self.layout.nplanes if self.layout.folded else 1), -1).mean(dim=1)

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        """Add two features."""
        return first + second

    def concatenate(self, first: Tensor, second: Tensor) -> Tensor:
        """Concatenate the channels of each plane."""
        groups = self.layout.groups
        if groups == 1:
            return torch.cat((first, second), dim=1)
        pairs = zip(first.chunk(groups, dim=1), second.chunk(groups, dim=1), strict=True)
        return torch.cat([features for pair in pairs for features in pair], dim=1)

    @functools.cached_property
    def merged(self) -> "DenseVocabulary":
        """The vocabulary of the deepest level when planes meet there."""
        return dataclasses.replace(self, layout=dataclasses.replace(self.layout, merged=True))

    @property
    def merged_channels(self) -> int:
        """Channels of merged features for each channel of a plane."""
        return 1 if self.layout.volumetric else self.layout.nplanes

    def merge(self, features: Tensor) -> Tensor:
        """Put the planes' channels side by side (2D); in 3D, and with weights of their own, nothing is to be done."""
        if self.layout.volumetric or not self.layout.shared:
            return features
        return planes.side_by_side(features, self.layout.nplanes, self.channels_last)

    def split(self, merged: Tensor, like: Tensor) -> Tensor:
        """Undo `merge`."""
        if self.layout.volumetric or not self.layout.shared:
            return merged
        return planes.fold(merged, self.layout.nplanes, self.channels_last)


def store_channels_last(network: nn.Module) -> None:
    """Store the kernels of a network in channels_last, too; their shapes and values stay."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.dim()])
