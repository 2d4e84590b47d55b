"""What sites tell each other tick by tick, in the compiled kernels: see `engine.Engine` and `models.crossings`."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.models.sparse.engine import Sites
from cosmictagger.models.sparse.native.library import Function
from cosmictagger.models.sparse.sites import Int32

Kernels = dict[str, Function]


def tick_maximum(values: Tensor, starts: Int32, kernels: Kernels) -> Tensor:
    """Take the maximum over the sites of each tick, or 0: [S, C] → [ticks, C]."""
    result: Tensor = _TickMaximum.apply(values, starts, kernels)  # type: ignore[no-untyped-call]
    return result


def add_to_ticks(values: Tensor, rows: Tensor, starts: Int32, kernels: Kernels) -> Tensor:
    """Add a row [ticks, C] to the sites of each tick: [S, C] → [S, C]."""
    result: Tensor = _AddToTicks.apply(values, rows, starts, kernels)  # type: ignore[no-untyped-call]
    return result


def crossing_maximum(values: Tensor, sites: Sites, level: int, offset: int, kernels: Kernels) -> Tensor:
    """Find the crossing of each site's wire where the other two planes have most: [S, C] → [S, C]."""
    result: Tensor = _CrossingMaximum.apply(values, _Images(sites, level), offset, kernels)  # type: ignore[no-untyped-call]
    return result


class _Images:
    """Where the sites of a level lie, as the kernels take it."""

    def __init__(self, sites: Sites, level: int) -> None:
        self.held = sites.levels[level]  # the arrays behind the addresses
        self.places = (self.held.pixel.ctypes.data, self.held.ticks.ctypes.data)
        self.sizes = (sites.images, *self.held.shape)


class _TickMaximum(torch.autograd.Function):
    """Maximum over the sites of each tick, or 0: [S, C] → [ticks, C]; equal ones share the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, starts: Int32, kernels: Kernels) -> Tensor:
        result = values.new_empty(len(starts) - 1, values.shape[1])
        kernels["tick_maximum"](
            values.data_ptr(), starts.ctypes.data, *result.shape, result.data_ptr(), torch.get_num_threads()
        )
        ctx.save_for_backward(values, result)
        ctx.starts, ctx.kernels = starts, kernels
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        values, result = ctx.saved_tensors
        slope, by_values = slope.contiguous(), torch.empty_like(values)
        ctx.kernels["tick_maximum_slopes"](
            values.data_ptr(), result.data_ptr(), slope.data_ptr(), ctx.starts.ctypes.data, *result.shape,
            by_values.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return by_values, None, None


class _AddToTicks(torch.autograd.Function):
    """Values [S, C] and a row [ticks, C] for the sites of each tick → [S, C]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, rows: Tensor, starts: Int32, kernels: Kernels) -> Tensor:
        result = torch.empty_like(values)
        kernels["add_to_ticks"](
            values.data_ptr(), rows.data_ptr(), starts.ctypes.data, *rows.shape, result.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        ctx.starts, ctx.kernels, ctx.ticks = starts, kernels, len(rows)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None, None]:
        slope = slope.contiguous()
        by_rows = slope.new_empty(ctx.ticks, slope.shape[1])
        ctx.kernels["add_to_ticks_slopes"](
            slope.data_ptr(), ctx.starts.ctypes.data, *by_rows.shape, by_rows.data_ptr(), torch.get_num_threads()
        )
        return slope, by_rows, None, None


class _CrossingMaximum(torch.autograd.Function):
    """See `models.crossings`: [S, C] → [S, C]; whose value a result is gets its slope."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, images: _Images, offset: int, kernels: Kernels) -> Tensor:
        result, source = torch.empty_like(values), torch.empty(values.shape, dtype=torch.int32)
        kernels["crossing_maximum"](
            values.data_ptr(), *images.places, *images.sizes, values.shape[1], offset, result.data_ptr(),
            source.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        ctx.save_for_backward(source)
        ctx.images, ctx.kernels = images, kernels
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        (source,) = ctx.saved_tensors
        slope = slope.contiguous()
        by_values = torch.empty_like(slope)
        ctx.kernels["crossing_maximum_slopes"](
            slope.data_ptr(), source.data_ptr(), *ctx.images.places, *ctx.images.sizes, slope.shape[1],
            by_values.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return by_values, None, None, None
