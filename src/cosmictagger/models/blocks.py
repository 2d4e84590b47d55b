"""The blocks of a UResNet, put together from the parts of a vocabulary."""

import torch
from torch import nn

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.crossings import offset_of_pixels
from cosmictagger.models.vocabulary import Features, Vocabulary


class Block(nn.Module):
    """Convolution (`conv`), normalization (`norm`), ReLU."""

    def __init__(self, vocabulary: Vocabulary, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.conv = conv
        self.norm = norm

    def forward(self, features: Features) -> Features:
        """Features → features."""
        return self.vocabulary.block(features, [(self.conv, self.norm)], residual=False)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut: conv1, norm1, ReLU, conv2, norm2, add the input, ReLU."""

    def __init__(
        self, vocabulary: Vocabulary, conv1: nn.Module, norm1: nn.Module, conv2: nn.Module, norm2: nn.Module
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.conv1 = conv1
        self.norm1 = norm1
        self.conv2 = conv2
        self.norm2 = norm2

    def forward(self, features: Features) -> Features:
        """Features → features."""
        layers = [(self.conv1, self.norm1), (self.conv2, self.norm2)]
        return self.vocabulary.block(features, layers, residual=True)


class Pooling(Block):
    """Maximum over 2×2, then a 1×1 Block to the channels of the level below."""

    def forward(self, features: Features) -> Features:
        """Features → features one level down."""
        return super().forward(self.vocabulary.pool(features))


class Interpolation(Block):
    """A 1×1 Block to the channels of the level above, then nearest-neighbour interpolation.

    Nearest, because a copy needs no neighbours: on active sites alone it is the same operation, while a
    bilinear one would reach for sites that a sparse network does not have. The Block comes first because a
    pointwise operation and a copy commute, and there are a quarter of the pixels before.
    """

    def forward(self, features: Features) -> Features:
        """Features → features one level up."""
        return self.vocabulary.unpool(super().forward(features))


class Exchange(nn.Module):
    """Lets the planes tell each other, tick by tick, the strongest of their features.

    A tick is what planes have in common: charge that one of them sees there, the others see at the same tick, at wires
    of their own. The last step starts at zero: a network that was trained without can go on with it. Along ticks nothing
    is sparse, so the two steps between are PyTorch's own, in every vocabulary.
    """

    def __init__(self, vocabulary: Vocabulary, channels: int, bias: bool) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        together = vocabulary.nplanes * channels
        self.mix = nn.Conv1d(together, together, 3, padding=1, bias=bias)
        self.spread = nn.Conv1d(together, together, 1, bias=bias)
        for parameter in self.spread.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Features) -> Features:
        """Features → features."""
        largest = self.vocabulary.tick_maximum(features)  # of the type that the engine computes in
        mixed = torch.relu(self.mix(largest.to(self.mix.weight.dtype)))
        return self.vocabulary.add_to_ticks(features, self.spread(mixed))


class Crossing(nn.Module):
    """Lets each pixel know what the other two planes see where their wires cross its own.

    Charge is at one of the crossings along its wire; where the other two planes have something at the same one, it is
    often the same charge. The last step starts at zero: a network that was trained without can go on with it.
    """

    def __init__(self, vocabulary: Vocabulary, mix: Block, spread: nn.Module, offset: int) -> None:
        super().__init__()
        self.vocabulary, self.offset = vocabulary, offset
        self.mix = mix
        self.spread = spread
        for parameter in self.spread.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Features) -> Features:
        """Features → features."""
        features = self.vocabulary.settle(features)
        found = self.vocabulary.crossing_maximum(self.mix(features), self.offset)
        return self.vocabulary.add(features, self.spread(found))


class Sum(nn.Module):
    """Connection that adds the features of the way down to those of the way up."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.vocabulary = vocabulary

    def forward(self, features: Features, skipped: Features) -> Features:
        """Two features → features."""
        return self.vocabulary.add(features, skipped)


class Concatenation(nn.Module):
    """Connection that concatenates (way up first) and returns to the level's channels by a 1×1 Block."""

    def __init__(self, vocabulary: Vocabulary, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.conv = conv
        self.norm = norm

    def forward(self, features: Features, skipped: Features) -> Features:
        """Two features → features."""
        return self.norm(self.conv(self.vocabulary.concatenate(features, skipped)))


class Unconnected(nn.Module):
    """The connection of a network without connections."""

    def forward(self, features: Features, skipped: Features) -> Features:
        """Two features → the first."""
        return features


class Workshop:
    """Makes blocks from a vocabulary as the configuration asks; the only reader of the options about blocks."""

    def __init__(self, vocabulary: Vocabulary, config: NetworkConfig) -> None:
        self.vocabulary = vocabulary
        self.config = config

    def block(self, inputs: int, outputs: int, size: int) -> Block:
        """Make a Block with a size × size kernel."""
        conv = self.vocabulary.convolution(inputs, outputs, size, self.config.use_bias)
        return Block(self.vocabulary, conv, self._norm(outputs))

    def pointwise(self, inputs: int, outputs: int) -> Block:
        """Make a 1×1 Block."""
        return Block(self.vocabulary, *self._pointwise(inputs, outputs))

    def exchange(self, channels: int, level: int) -> nn.Module:
        """Make what planes tell each other at a level, if anything."""
        if level < self.config.network_depth - self.config.exchange_levels:
            return nn.Identity()
        return Exchange(self.vocabulary, channels, self.config.use_bias)

    def crossing(self, channels: int, level: int) -> nn.Module:
        """Make what planes tell each other at a level where their wires cross, if anything."""
        if level not in self.config.crossing_levels:
            return nn.Identity()
        spread = self.vocabulary.pointwise(channels, channels, self.config.use_bias)
        offset = self.config.crossing_offset
        if offset is None:
            raise ValueError("a network with crossing_levels needs its crossing_offset")
        return Crossing(
            self.vocabulary, self.pointwise(channels, channels), spread, round(offset_of_pixels(offset, level))
        )

    def presence(self, channels: int, level: int, classes: int) -> nn.Module | None:
        """Make what tells at a level, in training, which of the classes are in a pixel, if anything: a logit for each."""
        if level not in self.config.supervised_levels:
            return None
        return self.vocabulary.pointwise(channels, classes, bias=True)

    def stack(self, count: int, channels: int, size: int = 3) -> nn.Sequential:
        """Make `count` blocks, residual or plain, that keep the channels."""
        make = self._residual if self.config.residual else self._plain
        return nn.Sequential(*(make(channels, size) for _ in range(count)))

    def downsample(self, inputs: int, outputs: int) -> Block:
        """Make the step to the level below."""
        if self.config.downsampling == "max_pooling":
            return Pooling(self.vocabulary, *self._pointwise(inputs, outputs))
        conv = self.vocabulary.reduction(inputs, outputs, self.config.use_bias)
        return Block(self.vocabulary, conv, self._norm(outputs))

    def upsample(self, inputs: int, outputs: int) -> Block:
        """Make the step to the level above."""
        if self.config.upsampling == "interpolation":
            return Interpolation(self.vocabulary, *self._pointwise(inputs, outputs))
        conv = self.vocabulary.expansion(inputs, outputs, self.config.use_bias)
        return Block(self.vocabulary, conv, self._norm(outputs))

    def connection(self, channels: int) -> nn.Module:
        """Make what joins the way down to the way up: (features, skipped features) → features."""
        if self.config.connections == "sum":
            return Sum(self.vocabulary)
        if self.config.connections == "concat":
            return Concatenation(self.vocabulary, *self._pointwise(2 * channels, channels))
        return Unconnected()

    def _plain(self, channels: int, size: int) -> Block:
        return self.block(channels, channels, size)

    def _residual(self, channels: int, size: int) -> ResidualBlock:
        first, second = self.block(channels, channels, size), self.block(channels, channels, size)
        # Its branch starts at zero, so that a new network is as shallow as its levels: the variance would
        # otherwise double at each block, which without normalization overflows in deep networks.
        last = second.norm if self.config.batch_norm else second.conv
        nn.init.zeros_(last.get_parameter("weight"))
        return ResidualBlock(self.vocabulary, first.conv, first.norm, second.conv, second.norm)

    def _pointwise(self, inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
        return self.vocabulary.pointwise(inputs, outputs, self.config.use_bias), self._norm(outputs)

    def _norm(self, channels: int) -> nn.Module:
        return self.vocabulary.activation(channels, self.config.norm_statistics if self.config.batch_norm else None)
