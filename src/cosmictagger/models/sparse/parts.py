"""Sparse forward passes for the parameters of `models.parameters`; an engine does the computing."""

import torch
from torch import Tensor, nn

from cosmictagger.models import parameters, synchronized
from cosmictagger.models.dense.parts import flat
from cosmictagger.models.parameters import Layout, Statistics
from cosmictagger.models.sparse.engine import Block, Engine, Layer, SparseFeatures
from cosmictagger.models.vocabulary import Layers


class Convolution(parameters.Convolution):
    """Submanifold convolution of odd size: the sites stay, and only active neighbours count."""

    def __init__(
        self, engine: Engine, layout: Layout, inputs: int, outputs: int, kernel: tuple[int, ...], bias: bool
    ) -> None:
        super().__init__(layout, inputs, outputs, kernel, bias)
        self.engine = engine

    def forward(self, features: SparseFeatures) -> SparseFeatures:
        """Convolve."""
        sites, level = features.sites, features.level
        weight = flat(self.weight)
        if weight.shape[-1] == 1:
            return features.with_values(self.engine.pointwise(features.values, weight, self.bias))
        return features.with_values(self.engine.convolve(features.values, weight, self.bias, sites, level))


class Reduction(Convolution):
    """Convolution of 2×2 and stride 2: to the sites of the level below."""

    def forward(self, features: SparseFeatures) -> SparseFeatures:
        """Convolve."""
        sites, level = features.sites, features.level
        values = self.engine.reduce(features.values, flat(self.weight), self.bias, sites, level)
        return SparseFeatures(values, sites, level + 1)


class Expansion(parameters.Expansion):
    """Transposed convolution of 2×2 and stride 2: back to the sites of the level above."""

    def __init__(self, engine: Engine, layout: Layout, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(layout, inputs, outputs, bias)
        self.engine = engine

    def forward(self, features: SparseFeatures) -> SparseFeatures:
        """Convolve."""
        sites, level = features.sites, features.level - 1
        values = self.engine.expand(features.values, flat(self.weight), self.bias, sites, level)
        return SparseFeatures(values, sites, level)


class Normalization(parameters.Normalization):
    """Normalization over the active sites, an optional shortcut added, then ReLU."""

    def __init__(self, engine: Engine, layout: Layout, channels: int, statistics: Statistics = "batch") -> None:
        super().__init__(layout, channels, statistics)
        self.engine = engine

    def forward(self, features: SparseFeatures, shortcut: SparseFeatures | None = None) -> SparseFeatures:
        """Features, and a shortcut on the same sites → features."""
        added = None if shortcut is None else shortcut.values
        if self.of_image:
            return features.with_values(self._by_image(features, added))
        if self.training and self.reduce is not None:
            normalized = synchronized.batch_norm(features.values, self, self.reduce)
            return features.with_values(self.engine.activate(normalized, added, None, self.training))
        return features.with_values(self.engine.activate(features.values, added, self, self.training))

    def _by_image(self, features: SparseFeatures, shortcut: Tensor | None) -> Tensor:
        sizes = image_sizes(features)
        if not sizes:
            return features.values * self.weight + self.bias  # nothing, and no gradient that is missing
        return self.engine.activate_apart(features.values, shortcut, self, sizes)


class Rectification(nn.Module):
    """What is left of an activation without normalization: the shortcut and ReLU."""

    def forward(self, features: SparseFeatures, shortcut: SparseFeatures | None = None) -> SparseFeatures:
        """Features, and a shortcut on the same sites → features."""
        values = features.values if shortcut is None else features.values + shortcut.values
        return features.with_values(torch.relu(values))


def image_sizes(features: SparseFeatures) -> list[int]:
    """List the sites of each image that has any."""
    return [size for size in features.sites.image_sizes[features.level] if size]


def block(layers: Layers, residual: bool) -> Block | None:
    """Make a step of a chain of the parts of a block; None: they cannot be one."""
    taken: list[Layer] = []
    for conv, norm in layers:
        # A Reduction is a Convolution too, but one that leaves its sites.
        if type(conv) is not Convolution or not isinstance(norm, Normalization):
            return None
        if norm.training and norm.reduce is not None:
            return None
        taken.append(Layer(flat(conv.weight), conv.bias, norm))
    return Block(tuple(taken), residual)
