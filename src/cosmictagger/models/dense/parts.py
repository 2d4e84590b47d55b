"""Dense forward passes for the parameters of `models.parameters`.

Rectifying and adding happen in place: both act on the fresh output of a convolution or a normalization,
which neither keeps for its backward pass, and so each saves the memory of one more set of features.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmictagger.models import parameters, synchronized
from cosmictagger.models.dense import planes
from cosmictagger.models.parameters import EPSILON, Layout, Statistics


class Convolution(parameters.Convolution):
    """Convolution of odd size that keeps height and width: [B, groups × inputs, H, W] → [B, groups × outputs, H, W]."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        weight = flat(self.weight)
        padding = (weight.shape[2] // 2, weight.shape[3] // 2)
        return F.conv2d(features, weight, self.bias, padding=padding, groups=self.groups)


class Reduction(parameters.Convolution):
    """Convolution of 2×2 and stride 2: [B, groups × inputs, H, W] → [B, groups × outputs, H / 2, W / 2]."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return F.conv2d(features, flat(self.weight), self.bias, stride=2, groups=self.groups)


class Expansion(parameters.Expansion):
    """Transposed convolution of 2×2 and stride 2: [B, …, H, W] → [B, …, 2 H, 2 W]."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        return F.conv_transpose2d(features, flat(self.weight), self.bias, stride=2, groups=self.groups)


class PlaneMixing(parameters.Convolution):
    """3D convolution across the planes of folded features: [N × P, inputs, H, W] → [N × P, outputs, H, W].

    Computed as a 2D convolution between planes side by side: the same operations as conv3d, which on CPUs
    takes minutes for a backward pass in bfloat16 and leaves channels_last in float64.
    """

    def __init__(self, layout: Layout, inputs: int, outputs: int, size: int, bias: bool, channels_last: bool) -> None:
        super().__init__(layout, inputs, outputs, layout.kernel(size), bias)
        self.nplanes = layout.nplanes
        self.channels_last = channels_last

    def forward(self, features: Tensor) -> Tensor:
        """Convolve."""
        merged = planes.side_by_side(features, self.nplanes, self.channels_last)
        bias = None if self.bias is None else self.bias.repeat(self.nplanes)
        weight = planes.banded(self.weight, self.nplanes)
        if self.channels_last:
            weight = weight.contiguous(memory_format=torch.channels_last)
        mixed = F.conv2d(merged, weight, bias, padding=weight.shape[-1] // 2)
        return planes.fold(mixed, self.nplanes, self.channels_last)


class Normalization(parameters.Normalization):
    """Normalization over every axis but the channels, an optional shortcut added, then ReLU."""

    def __init__(self, layout: Layout, channels: int, statistics: Statistics = "batch") -> None:
        super().__init__(layout, channels, statistics)
        self.rows = layout.nplanes if layout.folded else 1  # along the first axis, for each image

    def forward(self, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Features [B, C, H, W], and a shortcut of that shape → features."""
        if self.training and self.reduce is not None:
            return rectify(synchronized.batch_norm(features, self, self.reduce), shortcut)
        parts = torch.split(features, self.rows) if self.of_image else (features,)
        normalized = [self._normalize(part) for part in parts]
        return rectify(torch.cat(normalized) if len(normalized) > 1 else normalized[0], shortcut)

    def _normalize(self, features: Tensor) -> Tensor:
        return F.batch_norm(
            features,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.of_image or self.training,
            self.momentum,
            EPSILON,
        )


class Rectification(nn.Module):
    """What is left of an activation without normalization: the shortcut and ReLU."""

    def forward(self, features: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """Features [B, C, H, W], and a shortcut of that shape → features; overwrites the first."""
        return rectify(features, shortcut)


def rectify(features: Tensor, shortcut: Tensor | None) -> Tensor:
    """Add the shortcut where there is one and take the positive part, in place."""
    return torch.relu_(features if shortcut is None else features.add_(shortcut))


def flat(weight: Tensor) -> Tensor:
    """Drop the axis of the planes, of size 1, from a 3D kernel: a [1, k, k] kernel on P planes is 2D on each."""
    return weight.squeeze(2) if weight.dim() == 5 else weight
