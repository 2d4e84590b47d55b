"""What a kind of network (dense or sparse) must supply for the UResNet to be built from it.

The UResNet never looks at a tensor: it hands `Features` from one part to the next. A vocabulary decides what
those are (a dense tensor; the values at the active sites, with their site sets) and makes the parts that
take and return them. Every part with parameters is a `parameters.Convolution`, `parameters.Expansion` or
`parameters.Normalization`, so that names, shapes and initial values do not depend on the vocabulary. (What planes
exchange, `blocks.Exchange`, are plain tensors over ticks, with parameters that no vocabulary makes.)
"""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from cosmictagger.models.parameters import Statistics

Features = Any
Layers = Sequence[tuple[nn.Module, nn.Module]]  # a convolution, and what `activation` makes


class Vocabulary(Protocol):
    """Makes the parts of a UResNet, and computes what needs no parameters.

    `inputs`, `outputs` and `channels` count the channels of one plane, or of all planes together in the
    merged vocabulary of a 2D network.
    """

    @property
    def nplanes(self) -> int:
        """Planes of an image."""
        ...

    def enter(self, images: Any) -> Features:
        """Turn the network's input into features of one channel."""
        ...

    def leave(self, features: Features) -> Tensor:
        """Turn the features of the last part into the network's output."""
        ...

    def convolution(self, inputs: int, outputs: int, size: int, bias: bool) -> nn.Module:
        """Make a convolution over size × size neighbours that keeps the sites: features → features."""
        ...

    def pointwise(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 1×1 convolution: features → features."""
        ...

    def reduction(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a 2×2 convolution of stride 2, one level down: features → features."""
        ...

    def expansion(self, inputs: int, outputs: int, bias: bool) -> nn.Module:
        """Make a transposed 2×2 convolution of stride 2, back to the sites one level up: features → features."""
        ...

    def activation(self, channels: int, statistics: Statistics | None) -> nn.Module:
        """Make (features, shortcut=None) → rectified features.

        Normalizes first where `statistics` says by which, then adds the shortcut. These are one part, not three, so that
        an engine can run them as one pass over memory.
        """
        ...

    def block(self, features: Features, layers: Layers, *, residual: bool) -> Features:
        """Compute convolutions and what `activation` makes in turn; where `residual`, the last adds the features.

        As `one_by_one` does, which a vocabulary takes where it knows nothing faster.
        """
        ...

    def settle(self, features: Features) -> Features:
        """Compute features, where that was put off: for those that two parts take."""
        ...

    def pool(self, features: Features) -> Features:
        """Take the maximum over each 2×2 block, one level down."""
        ...

    def unpool(self, features: Features) -> Features:
        """Copy each site to its 2×2 children, one level up (nearest-neighbour interpolation)."""
        ...

    def tick_maximum(self, features: Features) -> Tensor:
        """Take the maximum over the wires of each tick, of features that are nowhere negative: [N, P × C, height]."""
        ...

    def add_to_ticks(self, features: Features, rows: Tensor) -> Features:
        """Add rows [N, P × C, height] to all wires of each tick."""
        ...

    def crossing_maximum(self, features: Features, offset: int) -> Features:
        """Find for each pixel where, at its tick, the other two of three planes have most on wires that cross its own.

        Of features that are nowhere negative, [S or N × H × W, C]: for each pixel and channel the smaller of their two
        values there, in the same shape. See `models.crossings`; of equal values the first wire's counts.
        """
        ...

    def presence_loss(self, told: Features, present: Features) -> Tensor:
        """Average the binary cross-entropy of logits against 0 and 1 over the pixels and channels of each image: [N], float32."""
        ...

    def add(self, first: Features, second: Features) -> Features:
        """Add features of equal channels on the same sites."""
        ...

    def concatenate(self, first: Features, second: Features) -> Features:
        """Put the channels of `second` behind those of `first`, plane by plane, on the same sites."""
        ...

    @property
    def merged(self) -> "Vocabulary":
        """The vocabulary of the features that `merge` returns."""
        ...

    @property
    def merged_channels(self) -> int:
        """Channels of merged features for each channel of a plane: the planes in 2D, 1 in 3D."""
        ...

    def merge(self, features: Features) -> Features:
        """Bring the planes together: their channels side by side (plane-major) in 2D, planes as an axis in 3D."""
        ...

    def split(self, merged: Features, like: Features) -> Features:
        """Undo `merge`: take the planes apart, on the sites of `like`."""
        ...


def one_by_one(features: Features, layers: Layers, *, residual: bool) -> Features:
    """Compute the parts of a block in turn."""
    *before, (conv, norm) = layers
    inner = features
    for conv_before, norm_before in before:
        inner = norm_before(conv_before(inner))
    return norm(conv(inner), shortcut=features if residual else None)
