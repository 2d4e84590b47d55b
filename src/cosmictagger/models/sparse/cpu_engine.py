"""The engine of compiled kernels: float32 and float64 on CPUs, with results that do not depend on the threads."""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.models.parameters import EPSILON, Normalization
from cosmictagger.models.sparse import cpu_ticks
from cosmictagger.models.sparse.cpu_rules import CpuLevel, Plan, Rules
from cosmictagger.models.sparse.engine import Sites, place
from cosmictagger.models.sparse.native.library import Function, Library
from cosmictagger.models.sparse.native.library import load as load_library
from cosmictagger.models.sparse.sites import SiteTables

NAMES = {torch.float32: "float32", torch.float64: "float64"}


class CpuEngine:
    """Calls the compiled kernels; see `engine.Engine` for its methods."""

    name = "cpu"

    def __init__(self, library: Library) -> None:
        self._library = library

    def prepare(self, tables: SiteTables, device: torch.device) -> Sites:
        """Sort the neighbours of all sites into rules."""
        return place(tables, device, tuple(CpuLevel(level, self._library) for level in tables.levels))

    def convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve over the active neighbours."""
        rules = sites.levels[level].rules[weight.shape[-1]]
        return self._convolve(values, weight, bias, Plan(rules, rules, mirrored=True))

    def pointwise(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a 1×1 kernel."""
        rules = Rules.pointwise(len(values))
        return self._convolve(values, weight, bias, Plan(rules, rules))

    def reduce(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 with stride 2, one level down."""
        links = sites.levels[level]
        return self._convolve(values, weight, bias, Plan(links.down, links.up))

    def expand(self, values: Tensor, weight: Tensor, bias: Tensor | None, sites: Sites, level: int) -> Tensor:
        """Convolve 2×2 transposed, one level up."""
        links = sites.levels[level]
        return self._convolve(values, weight, bias, Plan(links.up, links.down, transposed=True))

    def pool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over active children, one level down."""
        values, kernels = self._ready(values)
        return _apply(_Pool, values, sites.levels[level], kernels)

    def unpool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Copy to active children, one level up."""
        values, kernels = self._ready(values)
        return _apply(_Unpool, values, sites.levels[level], kernels)

    def tick_maximum(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Take the maximum over the active sites of each tick, or 0."""
        values, kernels = self._ready(values)
        return cpu_ticks.tick_maximum(values, sites.levels[level].ticks, kernels)

    def add_to_ticks(self, values: Tensor, rows: Tensor, sites: Sites, level: int) -> Tensor:
        """Add a row to all active sites of its tick."""
        values, kernels = self._ready(values)
        return cpu_ticks.add_to_ticks(values, rows.to(values.dtype).contiguous(), sites.levels[level].ticks, kernels)

    def crossing_maximum(self, values: Tensor, sites: Sites, level: int, offset: int) -> Tensor:
        """Find the crossing of each site's wire where the other two planes have most."""
        values, kernels = self._ready(values)
        return cpu_ticks.crossing_maximum(values, sites, level, offset, kernels)

    def activate(self, values: Tensor, shortcut: Tensor | None, norm: Normalization | None, training: bool) -> Tensor:
        """Normalize, add the shortcut, rectify."""
        return self._activate(values, shortcut, norm, training and len(values) > 1, [len(values)])

    def activate_apart(self, values: Tensor, shortcut: Tensor | None, norm: Normalization, sizes: list[int]) -> Tensor:
        """Normalize part by part, add the shortcut, rectify."""
        return self._activate(values, shortcut, norm, True, sizes)

    def _activate(
        self, values: Tensor, shortcut: Tensor | None, norm: Normalization | None, training: bool, sizes: list[int]
    ) -> Tensor:
        values, kernels = self._ready(values)
        if shortcut is not None:
            shortcut = shortcut.to(values.dtype).contiguous()
        if norm is None:
            return _apply(_Activation, values, shortcut, None, None, None, False, sizes, kernels)
        if norm.weight.dtype != values.dtype:
            raise TypeError(f"a normalization of {norm.weight.dtype} cannot take values of {values.dtype}")
        running = (norm.running_mean, norm.running_var, norm.momentum)
        return _apply(_Activation, values, shortcut, norm.weight, norm.bias, running, training, sizes, kernels)

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
        values, kernels = self._ready(values)
        weight = weight.to(values.dtype).contiguous()
        bias = None if bias is None else bias.to(values.dtype)
        return _apply(_Convolution, values, weight, bias, plan, kernels)

    def _ready(self, values: Tensor) -> tuple[Tensor, dict[str, Function]]:
        """Values as the kernels take them (16-bit floats as float32), and the kernels of their type."""
        if values.dtype not in NAMES:
            values = values.float()
        return values.contiguous(), self._library.typed[NAMES[values.dtype]]


def load(device: torch.device | None = None) -> CpuEngine | str:
    """Return the engine, or why it does not work here."""
    if device is not None and device.type != "cpu":
        return "the cpu engine computes on a CPU, not on a GPU"
    library = load_library()
    return library if isinstance(library, str) else CpuEngine(library)


def _apply(function: Any, *arguments: Any) -> Tensor:
    result: Tensor = function.apply(*arguments)
    return result


def _address(tensor: Tensor | None, row: int = 0) -> int | None:
    return None if tensor is None else tensor.data_ptr() + row * tensor.stride(0) * tensor.element_size()


class _Convolution(torch.autograd.Function):
    """Values [inputs sites, I], weight, bias, plan, kernels → [output sites, O]."""

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, kernels: dict[str, Function]
    ) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.plan, ctx.kernels, ctx.biased = plan, kernels, bias is not None
        outputs = weight.shape[1 if plan.transposed else 0]
        result = values.new_empty(plan.forward.arguments[0], outputs)
        kernels["convolve"](
            *plan.forward.arguments, values.data_ptr(), values.shape[1], weight.data_ptr(), *plan.strides(weight),
            False, _address(bias), result.data_ptr(), outputs, torch.get_num_threads(),
        )  # fmt: skip
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        plan, kernels, slope = ctx.plan, ctx.kernels, slope.contiguous()
        inputs, outputs, threads = values.shape[1], slope.shape[1], torch.get_num_threads()
        tap, row, column = plan.strides(weight)
        by_values = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_values = torch.empty_like(values)
            kernels["convolve"](
                *plan.backward.arguments, slope.data_ptr(), outputs, weight.data_ptr(), tap, column, row,
                plan.mirrored, None, by_values.data_ptr(), inputs, threads,
            )  # fmt: skip
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            by_weight = torch.empty_like(weight)
            by_bias = slope.new_empty(outputs) if ctx.biased else None
            kernels["correlate"](
                *plan.forward.arguments, values.data_ptr(), inputs, slope.data_ptr(), outputs, by_weight.data_ptr(),
                tap, row, column, _address(by_bias), threads,
            )  # fmt: skip
        return by_values, by_weight, by_bias, None, None


def _rows(sizes: list[int]) -> Iterator[tuple[int, int]]:
    """Give the first row and the number of rows of each part."""
    return zip(itertools.accumulate(sizes, initial=0), sizes, strict=False)


class _Activation(torch.autograd.Function):
    """Values and shortcut [S, C], weight and bias [C] or None, running statistics, sizes of parts of S → [S, C]."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        shortcut: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        running: tuple[Tensor | None, Tensor | None, float] | None,
        training: bool,
        sizes: list[int],
        kernels: dict[str, Function],
    ) -> Tensor:
        result, channels = torch.empty_like(values), values.shape[1]
        mean, inverse = values.new_empty(2, len(sizes), channels)
        means, variances, momentum = (None, None, 0.0) if running is None else running
        for part, (row, sites) in enumerate(_rows(sizes)):
            kernels["activate"](
                _address(values, row), _address(shortcut, row), _address(weight), _address(bias), _address(means),
                _address(variances), momentum, EPSILON, training, _address(mean, part), _address(inverse, part),
                _address(result, row), sites, channels, torch.get_num_threads(),
            )  # fmt: skip
        ctx.save_for_backward(values, result, weight, mean, inverse)
        ctx.training, ctx.sizes, ctx.kernels, ctx.added = training, sizes, kernels, shortcut is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, result, weight, mean, inverse = ctx.saved_tensors
        slope = slope.contiguous()
        by_values, by_shortcut = torch.empty_like(values), torch.empty_like(values) if ctx.added else None
        by_weight, by_bias = (None, None) if weight is None else (torch.empty_like(mean), torch.empty_like(mean))
        for part, (row, sites) in enumerate(_rows(ctx.sizes)):
            ctx.kernels["activate_slopes"](
                _address(values, row), _address(result, row), _address(slope, row), _address(weight), ctx.training,
                _address(mean, part), _address(inverse, part), _address(by_values, row), _address(by_shortcut, row),
                _address(by_weight, part), _address(by_bias, part), sites, values.shape[1], torch.get_num_threads(),
            )  # fmt: skip
        if by_weight is not None and by_bias is not None:
            by_weight, by_bias = by_weight.sum(0), by_bias.sum(0)
        return by_values, by_shortcut, by_weight, by_bias, None, None, None, None


class _Pool(torch.autograd.Function):
    """Maximum over active children: [S, C] → [sites below, C]; of equal ones the first takes the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, links: CpuLevel, kernels: dict[str, Function]) -> Tensor:
        result = values.new_empty(links.parents, values.shape[1])
        slot = torch.empty(result.shape, dtype=torch.uint8)
        kernels["pool"](
            values.data_ptr(), links.children, *result.shape, result.data_ptr(), slot.data_ptr(),
            torch.get_num_threads(),
        )  # fmt: skip
        ctx.save_for_backward(slot)
        ctx.links, ctx.kernels = links, kernels
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        slope, links = slope.contiguous(), ctx.links
        result = slope.new_empty(links.sites, slope.shape[1])
        ctx.kernels["pool_slopes"](
            slope.data_ptr(), slot.data_ptr(), links.family, *result.shape, result.data_ptr(), torch.get_num_threads()
        )
        return result, None, None


class _Unpool(torch.autograd.Function):
    """Copy to active children: [sites below, C] → [S, C]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, links: CpuLevel, kernels: dict[str, Function]) -> Tensor:
        result = values.new_empty(links.sites, values.shape[1])
        kernels["unpool"](values.data_ptr(), links.family, *result.shape, result.data_ptr(), torch.get_num_threads())
        ctx.links, ctx.kernels = links, kernels
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        slope, links = slope.contiguous(), ctx.links
        result = slope.new_empty(links.parents, slope.shape[1])
        ctx.kernels["unpool_slopes"](
            slope.data_ptr(), links.children, *result.shape, result.data_ptr(), torch.get_num_threads()
        )
        return result, None, None
