"""The engine of plain PyTorch operations: runs wherever PyTorch does, in any floating type.

Everything is a gather followed by one matrix product, also backward: no two threads ever add to the same
number, so results do not change between runs, on a GPU neither. But for crossings: they are looked for in dense images,
and their slopes are added up by a scatter, which on a GPU takes --deterministic to repeat.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cosmictagger.models.crossings import crossing_maximum
from cosmictagger.models.parameters import EPSILON, Normalization
from cosmictagger.models.sparse.engine import Sites, place
from cosmictagger.models.sparse.sites import Int32, Level, SiteTables


@dataclasses.dataclass(frozen=True)
class TorchLevel:
    """The tables of a level as index tensors, in which a site that is not active is the one behind the last."""

    neighbours: Mapping[int, Tensor]  # kernel size -> [S, k * k]
    family: Tensor | None  # [S]
    children: Tensor | None  # [sites below, 4]
    ticks: Tensor | None  # sites of each tick of each plane, [images * planes * height], int64
    places: Tensor | None  # [S], image_plane * height * width + pixel, where there are `ticks`
    shape: tuple[int, int]


class TorchEngine:
    """Gathers neighbours side by side and multiplies once; see `engine.Engine` for its methods."""

    name = "torch"
    chain = None

    def prepare(self, tables: SiteTables, device: torch.device) -> Sites:
        """Bring the site sets of a batch to the device."""
        return place(tables, device, tuple(make_level(level, device) for level in tables.levels))

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve over the active neighbours."""
        size = weight.shape[-1]
        if size == 1:
            return self.pointwise(values, weight, bias)
        values, weight, bias = common(values, weight, bias)
        taps = weight.flatten(2).permute(2, 1, 0)
        return biased(_apply(_Convolution, values, taps, sites.levels[level].neighbours[size]), bias)

    def pointwise(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a 1×1 kernel."""
        return F.linear(*common(values, weight.flatten(1), bias))

    def reduce(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 with stride 2, one level down."""
        values, weight, bias = common(values, weight, bias)
        links = sites.levels[level]
        cells = _apply(_ToCells, values, links.children, links.family)
        return biased(cells.flatten(1) @ weight.flatten(2).permute(2, 1, 0).flatten(0, 1), bias)

    def expand(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 transposed, one level up."""
        values, weight, bias = common(values, weight, bias)
        links = sites.levels[level]
        cells = values @ weight.flatten(2).permute(0, 2, 1).flatten(1)
        cells = cells.view(len(values), 4, weight.shape[1])
        return biased(_apply(_FromCells, cells, links.children, links.family), bias)

    def pool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over active children, one level down."""
        links = sites.levels[level]
        return _apply(_Pool, values, links.children, links.family)

    def unpool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Copy to active children, one level up."""
        links = sites.levels[level]
        return _apply(_Unpool, values, links.children, links.family)

    def tick_maximum(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over the active sites of each tick, or 0."""
        return torch.segment_reduce(values, "max", lengths=sites.levels[level].ticks, initial=0, unsafe=True)

    def add_to_ticks(self, values: Tensor, rows: Tensor, sites: Sites, level: int) -> Tensor:
        """Add a row to all active sites of its tick."""
        return values + _apply(_AtTicks, rows.to(values.dtype), sites.levels[level].ticks, len(values))

    def crossing_maximum(self, values: Tensor, sites: Sites, level: int, offset: int) -> Tensor:
        """Find the crossing of each site's wire where the other two planes have most."""
        held, channels = sites.levels[level], values.shape[1]
        height, width = held.shape
        rows = sites.images * sites.planes * height * width
        dense = values.new_zeros(rows, channels).index_copy(0, held.places, values)
        images = dense.view(sites.images, sites.planes, height, width, channels).permute(0, 1, 4, 2, 3)
        most = crossing_maximum(images, offset).permute(0, 1, 3, 4, 2).reshape(rows, channels)
        return most.index_select(0, held.places)

    def activate(self, values: Tensor, shortcut: Tensor | None, norm: Normalization | None, training: bool) -> Tensor:
        """Normalize, add the shortcut, rectify."""
        if norm is not None:
            values = _normalize(values, norm, training and len(values) > 1)
        return torch.relu(values if shortcut is None else values + shortcut)

    def activate_apart(self, values: Tensor, shortcut: Tensor | None, norm: Normalization, sizes: list[int]) -> Tensor:
        """Normalize part by part, add the shortcut, rectify."""
        values = torch.cat([_normalize(part, norm, True) for part in torch.split(values, sizes)])
        return torch.relu(values if shortcut is None else values + shortcut)


def _apply(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


def make_level(level: Level, device: torch.device) -> TorchLevel:
    """Bring the tables of a level to the device."""
    ticks = None if level.ticks is None else torch.from_numpy(np.diff(level.ticks).astype(np.int64)).to(device)

    def index(table: Int32 | None) -> Tensor | None:
        if table is None:
            return None
        sent = torch.from_numpy(table).to(device)
        return torch.where(sent < 0, len(level), sent)

    neighbours = {size: table for size in level.sizes if (table := index(level.neighbours(size))) is not None}
    places = None
    if ticks is not None:
        pixels = level.shape[0] * level.shape[1]
        places = torch.from_numpy(level.image_plane.astype(np.int64) * pixels + level.pixel).to(device)
    return TorchLevel(neighbours, index(level.family), index(level.children), ticks, places, level.shape)


def common(values: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Convert to the type of the computing: that of autocast, or of the weights."""
    device = values.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return values.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def biased(values: Tensor, bias: Tensor | None) -> Tensor:
    """Add the bias where there is one."""
    return values if bias is None else values + bias


def _normalize(values: Tensor, norm: Normalization, training: bool) -> Tensor:
    # Not that of torch.nn.functional, which refuses to take the variance of one site.
    return torch.batch_norm(
        values,
        norm.weight,
        norm.bias,
        norm.running_mean,
        norm.running_var,
        training,
        norm.momentum,
        EPSILON,
        torch.backends.cudnn.enabled,
    )


def _gather(values: Tensor, table: Tensor, absent: float = 0.0) -> Tensor:
    """Take rows [S, C] by a table [T, K], giving [T, K, C]; the row behind the last one is `absent`."""
    padded = F.pad(values, (0, 0, 0, 1), value=absent)
    return padded.index_select(0, table.reshape(-1)).view(*table.shape, values.shape[1])


class _Convolution(torch.autograd.Function):
    """Values [S, I], taps [K, I, O], neighbours [S, K] → [S, O]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, taps: Tensor, table: Tensor) -> Tensor:
        ctx.save_for_backward(values, taps, table)
        return _gather(values, table).flatten(1) @ taps.flatten(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        values, taps, table = ctx.saved_tensors
        by_values = by_taps = None
        if ctx.needs_input_grad[0]:
            # If j is the k-th neighbour of i, then i is the k-th last neighbour of j.
            mirrored = taps.flip(0).transpose(1, 2)
            by_values = _gather(slope, table).flatten(1) @ mirrored.flatten(0, 1)
        if ctx.needs_input_grad[1]:
            by_taps = (_gather(values, table).flatten(1).t() @ slope).view(taps.shape)
        return by_values, by_taps, None


class _ToCells(torch.autograd.Function):
    """Gather children: [S, C] → [sites below, 4, C], zero where not active."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, children: Tensor, family: Tensor) -> Tensor:
        ctx.save_for_backward(family)
        return _gather(values, children)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (family,) = ctx.saved_tensors
        return slope.flatten(0, 1).index_select(0, family), None, None


class _FromCells(torch.autograd.Function):
    """Hand out to active children: [sites below, 4, C] → [S, C]."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, children: Tensor, family: Tensor) -> Tensor:
        ctx.save_for_backward(children)
        return cells.flatten(0, 1).index_select(0, family)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (children,) = ctx.saved_tensors
        return _gather(slope, children), None, None


class _Pool(torch.autograd.Function):
    """Maximum over active children: [S, C] → [sites below, C]; of equal ones the first takes the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, children: Tensor, family: Tensor) -> Tensor:
        largest, slot = _gather(values, children, float("-inf")).max(dim=1)
        ctx.save_for_backward(slot, family)
        return largest

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        slot, family = ctx.saved_tensors
        parent = family >> 2
        chosen = slot.index_select(0, parent) == (family & 3)[:, None]
        return slope.index_select(0, parent) * chosen, None, None


class _Unpool(torch.autograd.Function):
    """Copy to active children: [sites below, C] → [S, C]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, children: Tensor, family: Tensor) -> Tensor:
        ctx.save_for_backward(children)
        return values.index_select(0, family >> 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (children,) = ctx.saved_tensors
        return _gather(slope, children).sum(dim=1), None, None


class _AtTicks(torch.autograd.Function):
    """Hand out rows [ticks, C] to the sites of each tick: [S, C]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ticks: Tensor, sites: int) -> Tensor:
        ctx.save_for_backward(ticks)
        return torch.repeat_interleave(rows, ticks, dim=0, output_size=sites)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (ticks,) = ctx.saved_tensors
        # Sums of hundreds of 16-bit numbers lose their last ones, so they are added up in 32 bits or more.
        wide = slope.contiguous().to(torch.promote_types(slope.dtype, torch.float32))
        rows = torch.segment_reduce(wide, "sum", lengths=ticks, initial=0, unsafe=True)
        return rows.to(slope.dtype), None, None
