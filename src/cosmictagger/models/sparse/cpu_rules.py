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


@dataclasses.dataclass(frozen=True)
class Rules:
    """The pairs of sites that a convolution joins, tile by tile and tap by tap, as the kernels take them.

    `arguments` are (output sites, taps, addresses of the arrays), `arrays` keeps those arrays alive.
    """

    arguments: tuple[int, int, int | None, int | None, int | None]
    arrays: tuple[npt.NDArray[Any], ...] = ()

    @staticmethod
    def of(table: Int32, library: Library) -> "Rules":
        """Sort a table [outputs, taps] of input sites (-1: none)."""
        outputs, taps = table.shape
        starts = np.empty(-(-outputs // library.tile) * taps + 1, np.int32)
        pairs = library.functions["count_rules"](table.ctypes.data, outputs, taps, starts.ctypes.data)
        source, target = np.empty(pairs + 1, np.int32), np.empty(pairs + 1, np.uint8)
        addresses = (starts.ctypes.data, source.ctypes.data, target.ctypes.data)
        library.functions["fill_rules"](table.ctypes.data, outputs, taps, *addresses)
        return Rules((outputs, taps, *addresses), (starts, source, target))

    @staticmethod
    def pointwise(sites: int) -> "Rules":
        """Join every site with itself."""
        return Rules((sites, 1, None, None, None))


class CpuLevel:
    """The rules of a level; those of convolutions from and to the level below are made when first asked for."""

    def __init__(self, level: Level, library: Library) -> None:
        self._level, self._library = level, library
        self.rules: Mapping[int, Rules] = {size: Rules.of(table, library) for size, table in level.neighbours.items()}
        self.family = 0 if level.family is None else level.family.ctypes.data
        self.ticks, self.pixel, self.shape = level.ticks, level.pixel, level.shape
        self.children = 0 if level.children is None else level.children.ctypes.data
        self.sites, self.parents = len(level), 0 if level.children is None else len(level.children)

    @functools.cached_property
    def down(self) -> Rules:
        """Join parents (outputs) with their children."""
        assert self._level.children is not None
        return Rules.of(self._level.children, self._library)

    @functools.cached_property
    def up(self) -> Rules:
        """Join children (outputs) with their parents."""
        assert self._level.family is not None
        table = np.full((self.sites, 4), -1, np.int32)
        table[np.arange(self.sites), self._level.family & 3] = self._level.family >> 2
        return Rules.of(table, self._library)


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
