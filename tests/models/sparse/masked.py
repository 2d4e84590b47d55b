"""The reference: the dense network, masked to the active pixels after each layer.

A UResNet is built over this vocabulary as over any other. Features are dense, [N × P, C, H, W], and zero at
pixels that are not active.
"""

import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmictagger.models.dense import parts
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.parameters import EPSILON, Layout


@dataclasses.dataclass(frozen=True)
class Masked:
    values: Tensor
    active: Tensor  # bool [N × P, 1, H, W]

    def with_values(self, values: Tensor) -> "Masked":
        return Masked(values * self.active, self.active)


class Convolution(parts.Convolution):
    def forward(self, features):
        return features.with_values(super().forward(features.values))


class Reduction(parts.Reduction):
    def forward(self, features):
        active = MASKS[features.values.shape[2] // 2]
        return Masked(super().forward(features.values) * active, active)


class Expansion(parts.Expansion):
    """The sites that come back are those of the same level going down."""

    def forward(self, features):
        active = MASKS[features.values.shape[2] * 2]
        return Masked(super().forward(features.values) * active, active)


class Normalization(parts.Normalization):
    def forward(self, features, shortcut=None):
        if not self.of_image:
            return self._normalize(features, shortcut)
        sizes = (self.rows,) * (len(features.values) // self.rows)
        values, active = features.values.split(sizes), features.active.split(sizes)
        shortcuts = [None] * len(sizes) if shortcut is None else [Masked(x, None) for x in shortcut.values.split(sizes)]
        images = zip(values, active, shortcuts, strict=True)
        return features.with_values(torch.cat([self._normalize(Masked(v, a), s).values for v, a, s in images]))

    def _normalize(self, features, shortcut):
        values, active = features.values, features.active
        count = int(active.sum())
        if self.of_image or (self.training and count > 1):
            count = max(count, 1)
            mean = values.sum(dim=(0, 2, 3)) / count
            centred = (values - mean[:, None, None]) * active
            variance = centred.square().sum(dim=(0, 2, 3)) / count
            if not self.of_image:
                with torch.no_grad():
                    self.running_mean.lerp_(mean, self.momentum)
                    self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight / (variance + EPSILON).sqrt()
        values = (values - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]
        return features.with_values(torch.relu(values if shortcut is None else values + shortcut.values))


class Rectification(nn.Module):
    def forward(self, features, shortcut=None):
        return features.with_values(
            torch.relu(features.values if shortcut is None else features.values + shortcut.values)
        )


MASKS: dict[int, Tensor] = {}  # height -> the active pixels of that level


class MaskedVocabulary(DenseVocabulary):
    """Set `MASKS` by `set_masks` before each forward pass."""

    def enter(self, images):
        return Masked(super().enter(images), MASKS[images.shape[2]])

    def leave(self, features):
        return super().leave(features.values)

    def convolution(self, inputs, outputs, size, bias):
        return Convolution(self.layout, inputs, outputs, self.layout.kernel(size), bias)

    def pointwise(self, inputs, outputs, bias):
        return Convolution(self.layout, inputs, outputs, self.layout.point(), bias)

    def reduction(self, inputs, outputs, bias):
        return Reduction(self.layout, inputs, outputs, self.layout.point(2), bias)

    def expansion(self, inputs, outputs, bias):
        return Expansion(self.layout, inputs, outputs, bias)

    def activation(self, channels, statistics):
        return Normalization(self.layout, channels, statistics) if statistics else Rectification()

    def pool(self, features):
        height = features.values.shape[2] // 2
        return Masked(super().pool(features.values), MASKS[height])

    def unpool(self, features):
        height = features.values.shape[2] * 2
        return Masked(super().unpool(features.values) * MASKS[height], MASKS[height])

    def tick_maximum(self, features):
        return super().tick_maximum(features.values)

    def add_to_ticks(self, features, rows):
        return features.with_values(super().add_to_ticks(features.values, rows))

    def crossing_maximum(self, features, offset):
        return features.with_values(super().crossing_maximum(features.values, offset))

    def add(self, first, second):
        return first.with_values(first.values + second.values)

    def concatenate(self, first, second):
        return first.with_values(super().concatenate(first.values, second.values))

    @property
    def merged(self):
        return DenseVocabulary(dataclasses.replace(self.layout, merged=True), self.channels_last)

    def merge(self, features):
        return super().merge(features.values)

    def split(self, merged, like):
        return like.with_values(super().split(merged, like.values))


def set_masks(active: Tensor, depth: int) -> None:
    """Remember the active pixels [N, P, H, W] of every level."""
    MASKS.clear()
    mask = active.flatten(0, 1)[:, None]
    for _ in range(depth + 1):
        MASKS[mask.shape[2]] = mask
        mask = F.max_pool2d(mask.double(), 2) > 0


def masked_vocabulary(nplanes: int, volumetric: bool = False) -> MaskedVocabulary:
    return MaskedVocabulary(Layout(nplanes=nplanes, volumetric=volumetric, shared=True))
