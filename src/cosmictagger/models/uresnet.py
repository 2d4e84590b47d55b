"""The UResNet: one recursion over the blocks of a vocabulary, dense or sparse."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.blocks import Workshop
from cosmictagger.models.vocabulary import Features, Vocabulary

CLASSES = 3  # background, cosmic, neutrino


class UResNet(nn.Module):
    """A U-shaped network that gives every pixel a score for each class.

    Level 0 is full resolution; each of the `network_depth` levels halves the image on the way down and
    doubles it on the way up. What goes in and what comes out is the vocabulary's: the dense one takes
    images [N, P, H, W] and returns logits [N, P, 3, H, W].

    Parameter names, stable because checkpoints hold them (k: level, i: block)::

        initial.{conv,norm}.*
        levels.k.down.i.{conv,norm}.*        residual: levels.k.down.i.{conv1,norm1,conv2,norm2}.*
        levels.k.downsample.{conv,norm}.*
        levels.k.upsample.{conv,norm}.*
        levels.k.connect.{conv,norm}.*       connections concat only
        levels.k.exchange.{mix,spread}.*     at the deepest exchange_levels only
        levels.k.crossing.mix.{conv,norm}.*  at crossing_levels only; also levels.k.crossing.spread.*
        levels.k.up.i.{conv,norm}.*          residual: as in down
        levels.k.presence.*                  at supervised_levels only
        deepest.enter.{conv,norm}.*          with a bottleneck only; also deepest.leave
        deepest.blocks.i.{conv,norm}.*       residual: as in down
        final.i.{conv,norm}.*                residual: as in down
        classify.*

    A conv has a `weight` and a `bias`, a norm `weight` and `bias`, and by statistics of the batch `running_mean` and
    `running_var`.
    """

    def __init__(self, config: NetworkConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        workshop = Workshop(vocabulary, config)
        channels = channels_of_levels(config)
        self.initial = workshop.block(1, channels[0], config.filter_size_initial)
        self.levels = nn.ModuleList(
            Level(config, workshop, number, *pair) for number, pair in enumerate(itertools.pairwise(channels))
        )
        self.deepest = Deepest(config, vocabulary, channels[-1])
        self.final = workshop.stack(config.res_blocks_final, channels[0])
        self.classify = vocabulary.pointwise(channels[0], CLASSES, bias=True)

    def forward(self, images: Features) -> Tensor:
        """Score every pixel: images [N, P, H, W] → logits [N, P, 3, H, W] (dense)."""
        return self._score(self._features(images))

    def supervised(self, images: Features, present: Sequence[Features]) -> tuple[Tensor, Tensor]:
        """Score every pixel, and judge the supervised levels: → (logits, losses of the images [N], float32).

        `present` has, in the form of `images`, 1 at the pixels of each class but background, and 0 elsewhere. A pixel of
        a supervised level has to tell which of them are in it; the loss is the binary cross-entropy, averaged over the
        pixels of an image and the classes, and summed over the levels. Deep supervision, after Lee et al. 2015
        (arXiv:1409.5185): parts far from the output are told sooner what they are for. For networks that have such levels.
        """
        told: dict[int, Features] = {}
        features = self._features(images, told)
        losses = []
        first, second = (self.vocabulary.enter(pixels) for pixels in present)
        target = self.vocabulary.concatenate(first, second)
        for number in range(max(told) + 1):
            if number:
                target = self.vocabulary.pool(target)
            if number in told:
                losses.append(self.vocabulary.presence_loss(told[number], target))
        return self._score(features), torch.stack(losses).sum(dim=0)

    def _features(self, images: Features, told: dict[int, Features] | None = None) -> Features:
        return self._descend(self.initial(self.vocabulary.enter(images)), 0, told)

    def _score(self, features: Features) -> Tensor:
        return self.vocabulary.leave(self.classify(self.final(features)))

    def _descend(self, features: Features, depth: int, told: dict[int, Features] | None) -> Features:
        if depth == len(self.levels):
            return self.deepest(features)
        level = self.levels[depth]
        assert isinstance(level, Level)
        below, skipped = level.down_one(features)
        features = level.up_one(self._descend(below, depth + 1, told), skipped)
        if told is not None and level.presence is not None:
            told[depth] = level.presence(features)
        return features


class Level(nn.Module):
    """One level: its blocks on the way down and on the way up, and the steps to and from the level below."""

    def __init__(self, config: NetworkConfig, workshop: Workshop, number: int, channels: int, below: int) -> None:
        super().__init__()
        self.vocabulary = workshop.vocabulary
        self.skip_before_down = config.connect_pre_res_blocks_down
        self.join_before_up = config.connect_pre_res_blocks_up
        doubled = number >= config.network_depth - config.doubled_levels
        blocks = config.res_blocks_per_layer * (2 if doubled else 1)
        self.down = workshop.stack(blocks, channels)
        self.downsample = workshop.downsample(channels, below)
        self.upsample = workshop.upsample(below, channels)
        self.connect = workshop.connection(channels)
        self.exchange = workshop.exchange(channels, number)
        self.crossing = workshop.crossing(channels, number)
        self.up = workshop.stack(blocks, channels)
        self.presence = workshop.presence(channels, number, CLASSES - 1)

    def down_one(self, features: Features) -> tuple[Features, Features]:
        """Features of this level → (features of the level below, features for the connection)."""
        if self.skip_before_down:
            features = skipped = self.vocabulary.settle(features)
            return self.downsample(self.down(features)), skipped
        through = self.vocabulary.settle(self.down(features))
        return self.downsample(through), through

    def up_one(self, below: Features, skipped: Features) -> Features:
        """Features of the level below, and of the connection → features of this level."""
        features = self.upsample(below)
        if self.join_before_up:
            return self.up(self._told(self.connect(features, skipped)))
        return self.connect(self.up(self._told(features)), skipped)

    def _told(self, features: Features) -> Features:
        """Features → those that planes have told each other about."""
        return self.crossing(self.exchange(features))


class Deepest(nn.Module):
    """The deepest level, where the planes meet unless `block_concat` keeps them apart.

    2D: the channels of all planes together, through a 1×1 bottleneck if there is one. 3D: kernels that reach
    across the planes, while the bottleneck stays within each plane.
    """

    def __init__(self, config: NetworkConfig, vocabulary: Vocabulary, channels: int) -> None:
        super().__init__()
        self.apart = config.block_concat
        self.vocabulary = vocabulary
        inner = vocabulary if self.apart else vocabulary.merged
        workshop = Workshop(inner, config)
        outside = channels if self.apart else channels * vocabulary.merged_channels
        inside = outside if config.bottleneck_size < 0 else config.bottleneck_size
        narrow = config.bottleneck_size >= 0
        self.enter = workshop.pointwise(outside, inside) if narrow else nn.Identity()
        self.blocks = workshop.stack(config.res_blocks_deepest_layer, inside, config.filter_size_deepest)
        self.leave = workshop.pointwise(inside, outside) if narrow else nn.Identity()

    def forward(self, features: Features) -> Features:
        """Features of the deepest level → features of the deepest level."""
        if self.apart:
            return self.leave(self.blocks(self.enter(features)))
        merged = self.leave(self.blocks(self.enter(self.vocabulary.merge(features))))
        return self.vocabulary.split(merged, features)


def channels_of_levels(config: NetworkConfig) -> list[int]:
    """Channels of a plane at each level, from full resolution to the deepest: network_depth + 1 numbers."""
    levels = range(config.network_depth + 1)
    if config.growth_rate == "linear":
        return [config.n_initial_filters * (level + 1) for level in levels]
    return [config.n_initial_filters * 2**level for level in levels]
