"""Which sites the `cpu` engine's convolutions join, sorted as its kernels take them."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from cosmictagger.models.sparse.native.library import Library
from cosmictagger.models.sparse.sites import Int32, Level
from cosmictagger.models.sparse.tables import LARGEST


@dataclasses.dataclass(frozen=True)
class Rules:
    """The pairs of sites that a convolution joins, tile by tile and tap by tap, as the kernels take them.

    `arguments` are (output sites, taps, addresses of the arrays), `arrays` keeps those arrays alive.
    """

    arguments: tuple[int, int, int | None, int | None, int | None]
    arrays: tuple[npt.NDArray[Any], ...] = ()

    @staticmethod
    def of_table(table: Int32, library: Library, threads: int) -> "Rules":
        """Sort a table [outputs, taps] of input sites (-1: none)."""
        outputs, taps = table.shape
        rules = Rules._empty(outputs, taps, library)
        library.functions["table_rules"](table.ctypes.data, *rules.arguments, threads)
        return rules

    @staticmethod
    def of_neighbours(level: Level, size: int, library: Library) -> "Rules":
        """Find the neighbours of all sites under a size × size kernel."""
        if size > LARGEST:
            return Rules.of_table(level.neighbours(size), library, level.builder.threads)
        rules = Rules._empty(len(level), size * size, library)
        library.functions["neighbour_rules"](
            level.image_plane.ctypes.data, level.pixel.ctypes.data, len(level), level.planes, *level.shape, size,
            *rules.arguments[2:], level.builder.threads,
        )  # fmt: skip
        return rules

    @staticmethod
    def _empty(outputs: int, taps: int, library: Library) -> "Rules":
        # There is room for all pairs; what lies behind those of a tile is never touched.
        tiles = -(-outputs // library.tile)
        starts = np.empty((tiles, taps + 1), np.int32)
        source, target = (np.empty(tiles * library.tile * taps, dtype) for dtype in (np.int32, np.uint8))
        addresses = (starts.ctypes.data, source.ctypes.data, target.ctypes.data)
        return Rules((outputs, taps, *addresses), (starts, source, target))

    @staticmethod
    def pointwise(sites: int) -> "Rules":
        """Join every site with itself."""
        return Rules((sites, 1, None, None, None))


class CpuLevel:
    """The rules of a level; those of convolutions from and to the level below are made when first asked for."""

    def __init__(self, level: Level, library: Library) -> None:
        self._level, self._library = level, library
        self.rules: Mapping[int, Rules] = {size: Rules.of_neighbours(level, size, library) for size in level.sizes}
        self.family = 0 if level.family is None else level.family.ctypes.data
        self.ticks, self.pixel, self.shape = level.ticks, level.pixel, level.shape
        self.children = 0 if level.children is None else level.children.ctypes.data
        self.sites, self.parents = len(level), 0 if level.children is None else len(level.children)

    @functools.cached_property
    def down(self) -> Rules:
        """Join parents (outputs) with their children."""
        assert self._level.children is not None
        return Rules.of_table(self._level.children, self._library, self._level.builder.threads)

    @functools.cached_property
    def up(self) -> Rules:
        """Join children (outputs) with their parents."""
        assert self._level.family is not None
        table = np.full((self.sites, 4), -1, np.int32)
        table[np.arange(self.sites), self._level.family & 3] = self._level.family >> 2
        return Rules.of_table(table, self._library, self._level.builder.threads)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a weight meets its sites: the rules of the way there and back, and where channels and taps lie in it."""

    forward: Rules
    backward: Rules
    transposed: bool = False  # weight [I, O, taps] instead of [O, I, taps]
    mirrored: bool = False  # the way back meets the taps in reverse order

    def strides(self, weight: Tensor) -> tuple[int, int, int]:
        """Steps between the taps, input channels and output channels of a contiguous weight."""
        taps, rows = self.forward.arguments[1], weight.shape[1]
        return (1, rows * taps, taps) if self.transposed else (1, taps, rows * taps)
