"""What a sparse engine computes, and the values that it computes on.

An engine sees the site sets of a batch once (`prepare`) and then convolves, pools and normalizes values on
them. Every operation takes part in automatic differentiation.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cosmictagger.models.parameters import Normalization
from cosmictagger.models.sparse.sites import Level, SiteTables


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sites:
    """The site sets of a batch on the device, in the form that an engine wants."""

    images: int
    planes: int
    image_plane: Tensor  # [S] at full resolution: image * planes + plane, int32
    deepest_shape: tuple[int, int]
    deepest_image_plane: Tensor  # [sites of the deepest level], int64
    deepest_pixel: Tensor
    image_sizes: tuple[tuple[int, ...], ...]  # sites of each image, for each level; images follow one another
    levels: tuple[Any, ...]  # the engine's own, one for each level


class SparseFeatures:
    """Values [S, C] at the sites of a level."""

    def __init__(self, values: Tensor, sites: Sites, level: int = 0) -> None:
        self._values: Tensor | None = values
        self.sites = sites
        self.level = level

    @property
    def values(self) -> Tensor:
        """Values [S, C]."""
        assert self._values is not None
        return self._values

    def with_values(self, values: Tensor) -> "SparseFeatures":
        """Put other values at the same sites."""
        return SparseFeatures(values, self.sites, self.level)


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution that keeps the sites, weight [O, I, k, k] and bias, and the normalization behind it."""

    weight: Tensor
    bias: Tensor | None
    norm: Normalization


@dataclasses.dataclass(frozen=True)
class Block:
    """A step of a chain: layers, each rectified; where `residual`, what goes in is added before the last is."""

    layers: tuple[Layer, ...]
    residual: bool


@dataclasses.dataclass(frozen=True)
class Pool:
    """A step of a chain: the maximum over active children, one level down."""


@dataclasses.dataclass(frozen=True)
class Unpool:
    """A step of a chain: copies to active children, one level up."""


@dataclasses.dataclass(frozen=True)
class Add:
    """A step of a chain: values are added."""

    values: Tensor


Step = Block | Pool | Unpool | Add


class Engine(Protocol):
    """Computes on values [S, C]; S is the number of active sites of `level`, weights are shaped as in `parameters`."""

    @property
    def name(self) -> str:
        """Name for options, logs and results.json."""
        ...

    def prepare(self, tables: SiteTables, device: torch.device) -> Sites:
        """Bring the site sets of a batch to the device."""
        ...

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve over the active neighbours: weight [O, I, k, k], k odd; returns [S, O]."""
        ...

    def pointwise(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a 1×1 kernel: weight [O, I, 1, 1]."""
        ...

    def reduce(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 with stride 2 from `level` to the level below: weight [O, I, 2, 2]."""
        ...

    def expand(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 transposed, from the level below back to `level`: weight [I, O, 2, 2]."""
        ...

    def pool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over active children, from `level` to the level below."""
        ...

    def unpool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Copy to active children, from the level below to `level`."""
        ...

    def tick_maximum(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over the active sites of each tick, or 0 where that is more: [images × planes × height, C].

        Sites that share the maximum share its gradient.
        """
        ...

    def add_to_ticks(self, values: Tensor, rows: Tensor, sites: Sites, level: int) -> Tensor:
        """Add a row of `rows` [images × planes × height, C] to all active sites of its tick."""
        ...

    def crossing_maximum(self, values: Tensor, sites: Sites, level: int, offset: int) -> Tensor:
        """Find the crossing of each site's wire where the other two planes have most: [S, C] → [S, C].

        See `models.crossings`. Of equal values the site that comes first gets the slope.
        """
        ...

    def activate(self, values: Tensor, shortcut: Tensor | None, norm: Normalization | None, training: bool) -> Tensor:
        """Normalize over the sites where there is a `norm`, add the shortcut where there is one, rectify.

        In `training` by mean and variance of the sites. Fewer than two sites are normalized as in evaluation, also in
        training, and leave the running statistics as they are.
        """
        ...

    def activate_apart(self, values: Tensor, shortcut: Tensor | None, norm: Normalization, sizes: list[int]) -> Tensor:
        """Do so for parts of the sites, `sizes` of them in turn (each at least 1), by mean and variance of each part."""
        ...

    @property
    def chain(self) -> Callable[[Tensor, Sequence[Step], Sites, int], Tensor] | None:
        """What computes steps in turn, the first at the level that is given; None in an engine that gains nothing by it."""
        ...


def place(tables: SiteTables, device: torch.device, levels: tuple[Any, ...]) -> Sites:
    """Make `Sites` of the tables and the engine's own levels."""
    deepest = tables.levels[-1]
    return Sites(
        images=tables.images,
        planes=tables.planes,
        image_plane=torch.from_numpy(tables.levels[0].image_plane).to(device),
        deepest_shape=deepest.shape,
        deepest_image_plane=torch.from_numpy(deepest.image_plane).to(device, torch.int64),
        deepest_pixel=torch.from_numpy(deepest.pixel).to(device, torch.int64),
        image_sizes=tuple(_image_sizes(level, tables) for level in tables.levels),
        levels=levels,
    )


def _image_sizes(level: Level, tables: SiteTables) -> tuple[int, ...]:
    ends = np.searchsorted(level.image_plane, tables.planes * np.arange(1, tables.images + 1))
    return tuple(np.diff(ends, prepend=0).tolist())
