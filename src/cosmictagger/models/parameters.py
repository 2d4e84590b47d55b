"""The parameters of a UResNet: their names, shapes and initial values, the same for every vocabulary.

Planes that do not share weights have theirs stacked along the first axis, plane-major, as a grouped
convolution wants them.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor, nn

# Above float16's smallest normal number (6e-5): a smaller one vanishes in half-precision kernels, and the
# variance of a channel that is constant over an image then divides by zero.
EPSILON = 1e-4
MOMENTUM = 0.1

Statistics = Literal["batch", "image"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How the planes appear in the parameters."""

    nplanes: int
    volumetric: bool  # 3D: kernels have a first axis over the planes
    shared: bool  # one set of weights for all planes
    merged: bool = False  # the planes are together: one set of weights, 3D kernels that reach across planes

    @property
    def folded(self) -> bool:
        """Whether the planes of dense features lie in the batch axis, [N × P, C, H, W], and not in that of channels."""
        return self.volumetric or (self.shared and not self.merged)

    @property
    def groups(self) -> int:
        """Sets of weights that lie stacked in a parameter."""
        return 1 if self.shared or self.merged else self.nplanes

    def kernel(self, size: int) -> tuple[int, ...]:
        """Shape of a size × size kernel: [k, k]; in 3D [1, k, k], or odd and covering the planes once merged."""
        if not self.volumetric:
            return (size, size)
        return (self.nplanes | 1 if self.merged else 1, size, size)

    def point(self, size: int = 1) -> tuple[int, ...]:
        """Shape of a kernel that never reaches across planes: [k, k], or [1, k, k] in 3D."""
        return (1, size, size) if self.volumetric else (size, size)


class Convolution(nn.Module):
    """Parameters of a convolution: `weight` [groups × outputs, inputs, *kernel] and `bias` [groups × outputs]."""

    def __init__(self, layout: Layout, inputs: int, outputs: int, kernel: tuple[int, ...], bias: bool) -> None:
        super().__init__()
        self.groups = layout.groups
        self.weight = nn.Parameter(torch.empty(self.groups * outputs, inputs, *kernel))
        self.bias = nn.Parameter(torch.zeros(self.groups * outputs)) if bias else None
        initialize(self.weight, self.weight[0].numel())


class Expansion(nn.Module):
    """Parameters of a transposed 2×2 convolution: `weight` [groups × inputs, outputs, (1,) 2, 2] and `bias`."""

    def __init__(self, layout: Layout, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.groups = layout.groups
        self.weight = nn.Parameter(torch.empty(self.groups * inputs, outputs, *layout.point(2)))
        self.bias = nn.Parameter(torch.zeros(self.groups * outputs)) if bias else None
        # Stride equals size: every output pixel sees one tap of the kernel, so only the inputs add up.
        initialize(self.weight, inputs)


class Normalization(nn.Module):
    """Parameters of a normalization and, by statistics of the batch, their running averages, each [groups × channels].

    By statistics of the image there are none: an image is normalized by its own mean and variance over all of its
    planes (over one where the planes have weights of their own), in training and evaluation alike.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    reduce: Callable[[Tensor], Tensor] | None = None  # adds up over ranks: see `models.synchronized`
    momentum = MOMENTUM  # weight of a batch in the running statistics

    def __init__(self, layout: Layout, channels: int, statistics: Statistics = "batch") -> None:
        super().__init__()
        self.of_image = statistics == "image"
        self.weight = nn.Parameter(torch.ones(layout.groups * channels))
        self.bias = nn.Parameter(torch.zeros(layout.groups * channels))
        self.register_buffer("running_mean", None if self.of_image else torch.zeros(layout.groups * channels))
        self.register_buffer("running_var", None if self.of_image else torch.ones(layout.groups * channels))


def normalizations(module: nn.Module) -> Iterator[Normalization]:
    """List the normalizations of a network."""
    return (part for part in module.modules() if isinstance(part, Normalization))


def set_momentum(module: nn.Module, momentum: float) -> None:
    """Let a batch weigh `momentum`, above 0 and at most 1, in all running statistics of a network."""
    for norm in normalizations(module):
        norm.momentum = momentum


def initialize(weight: Tensor, fan_in: int) -> None:
    """Draw weights after Kaiming He: the variance 2 / fan_in keeps the scale through a rectified layer."""
    nn.init.normal_(weight, std=(2.0 / fan_in) ** 0.5)
