"""The sparse vocabulary of the UResNet: the dense network, masked to the active pixels after each layer.

Features are values at the sites of a level. Where the planes meet at the deepest level, values are written
into small dense images, zero at pixels that are not active; the dense vocabulary takes over there, all pixels
of the small images count, and only those of the active sites are taken back.
"""

import dataclasses
import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cosmictagger.models.parameters import Layout, Statistics
from cosmictagger.models.sparse import parts
from cosmictagger.models.sparse.deferred import Deferred, defers
from cosmictagger.models.sparse.engine import Add, Engine, Pool, SparseFeatures, Unpool
from cosmictagger.models.sparse.merged import MergedVocabulary
from cosmictagger.models.vocabulary import Layers, one_by_one


@dataclasses.dataclass(frozen=True)
class SparseVocabulary:
    """Makes the parts of a sparse UResNet; see `models.vocabulary.Vocabulary` for its methods."""

    layout: Layout
    engine: Engine

    @property
    def nplanes(self) -> int:
        """Planes of an image."""
        return self.layout.nplanes

    def enter(self, images: SparseFeatures) -> SparseFeatures:
        """Take the charge of the active pixels [S, 1]."""
        return images

    def leave(self, features: SparseFeatures) -> Tensor:
        """Features of one channel a class → logits of the active pixels [S, classes]."""
        return features.values

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a submanifold convolution."""
        return parts.Convolution(self.engine, self.layout, inputs, outputs, self.layout.kernel(size), bias)

    def pointwise(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 1×1 convolution."""
        return parts.Convolution(self.engine, self.layout, inputs, outputs, self.layout.point(), bias)

    def reduction(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 2×2 convolution of stride 2."""
        return parts.Reduction(self.engine, self.layout, inputs, outputs, self.layout.point(2), bias)

    def expansion(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a transposed 2×2 convolution of stride 2."""
        return parts.Expansion(self.engine, self.layout, inputs, outputs, bias)

    def activation(self, channels: int, statistics: Statistics | None) -> nn.Module:
        """Make normalization (where asked for) and ReLU."""
        if statistics is None:
            return parts.Rectification()
        return parts.Normalization(self.engine, self.layout, channels, statistics)

    def block(self, features: SparseFeatures, layers: Layers, *, residual: bool) -> SparseFeatures:
        """Compute a block: later, where the engine can."""
        step = parts.block(layers, residual)
        if step is None or not defers(self.engine, features):
            result: SparseFeatures = one_by_one(features, layers, residual=residual)
            return result
        return Deferred(features, step, features.level, self.engine)

    def settle(self, features: SparseFeatures) -> SparseFeatures:
        """Compute what has been put off."""
        return features.with_values(features.values)

    def pool(self, features: SparseFeatures) -> SparseFeatures:
        """Take the maximum over the active pixels of 2×2 blocks."""
        sites, level = features.sites, features.level
        if defers(self.engine, features):
            return Deferred(features, Pool(), level + 1, self.engine)
        return SparseFeatures(self.engine.pool(features.values, sites, level), sites, level + 1)

    def unpool(self, features: SparseFeatures) -> SparseFeatures:
        """Copy each site to the active pixels of its 2×2 block."""
        sites, level = features.sites, features.level - 1
        if defers(self.engine, features):
            return Deferred(features, Unpool(), level, self.engine)
        return SparseFeatures(self.engine.unpool(features.values, sites, level), sites, level)

    def tick_maximum(self, features: SparseFeatures) -> Tensor:
        """Take the maximum over the wires of each tick: [N, P × C, height]."""
        sites, level = features.sites, features.level
        rows = self.engine.tick_maximum(features.values, sites, level)
        return rows.reshape(sites.images, sites.planes, -1, rows.shape[1]).transpose(2, 3).flatten(1, 2)

    def add_to_ticks(self, features: SparseFeatures, rows: Tensor) -> SparseFeatures:
        """Add rows [N, P × C, height] to all wires of each tick."""
        sites, values = features.sites, features.values
        flat = (
            rows.reshape(sites.images, sites.planes, values.shape[1], -1).transpose(2, 3).reshape(-1, values.shape[1])
        )
        return features.with_values(self.engine.add_to_ticks(values, flat, sites, features.level))

    def crossing_maximum(self, features: SparseFeatures, offset: int) -> SparseFeatures:
        """Find the crossing of each site's wire where the other two planes have most."""
        most = self.engine.crossing_maximum(features.values, features.sites, features.level, offset)
        return features.with_values(most)

    def presence_loss(self, told: SparseFeatures, present: SparseFeatures) -> Tensor:
        """Average the binary cross-entropy over the active pixels of each image; 0 where it has none."""
        loss = F.binary_cross_entropy_with_logits(told.values.float(), present.values.float(), reduction="none")
        parts = torch.split(loss, list(told.sites.image_sizes[told.level]))
        return torch.stack([part.sum() / max(part.numel(), 1) for part in parts])

    def add(self, first: SparseFeatures, second: SparseFeatures) -> SparseFeatures:
        """Add two features."""
        if defers(self.engine, first):
            return Deferred(first, Add(second.values), first.level, self.engine)
        return first.with_values(first.values + second.values)

    def concatenate(self, first: SparseFeatures, second: SparseFeatures) -> SparseFeatures:
        """Concatenate the channels."""
        return first.with_values(torch.cat((first.values, second.values), dim=1))

    @functools.cached_property
    def merged(self) -> MergedVocabulary:
        """The dense vocabulary of the deepest level when planes meet there."""
        return MergedVocabulary(dataclasses.replace(self.layout, merged=True), channels_last=False)

    @property
    def merged_channels(self) -> int:
        """Channels of merged features for each channel of a plane."""
        return self.merged.merged_channels

    def merge(self, features: SparseFeatures) -> Tensor:
        """Write the values into dense images: [N, P × C, h, w] in 2D, [N × P, C, h, w] in 3D."""
        sites = features.sites
        height, width = sites.deepest_shape
        values, rows = features.values, sites.images * sites.planes * height * width
        dense = values.new_zeros(rows, values.shape[1]).index_copy(0, self._rows(features), values)
        images = sites.images * sites.planes if self.layout.volumetric else sites.images
        return dense.view(images, height, width, -1).permute(0, 3, 1, 2)

    def split(self, merged: Tensor, like: SparseFeatures) -> SparseFeatures:
        """Take the values of the active sites back out."""
        planes = 1 if self.layout.volumetric else self.layout.nplanes
        flat = merged.permute(0, 2, 3, 1).reshape(-1, merged.shape[1] // planes)
        # Dense layers may compute in 16 bits under autocast; the sparse ones go on as they were.
        return like.with_values(flat.index_select(0, self._rows(like)).to(like.values.dtype))

    def _rows(self, features: SparseFeatures) -> Tensor:
        """Number the row of every deepest site in images with the channels (and in 2D the planes) last."""
        sites = features.sites
        pixels = sites.deepest_shape[0] * sites.deepest_shape[1]
        if self.layout.volumetric:
            return sites.deepest_image_plane * pixels + sites.deepest_pixel
        image = sites.deepest_image_plane // sites.planes
        plane = sites.deepest_image_plane % sites.planes
        return (image * pixels + sites.deepest_pixel) * sites.planes + plane
