"""The engine of compiled kernels: float32 and float64 on CPUs, with results that do not depend on the threads."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.models.parameters import Normalization
from cosmictagger.models.sparse import cpu_layers, cpu_ticks
from cosmictagger.models.sparse.cpu_layers import Kernels, Statistics
from cosmictagger.models.sparse.cpu_rules import CpuLevel, Plan, Rules
from cosmictagger.models.sparse.engine import Layer, Sites, place
from cosmictagger.models.sparse.native.library import Library
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
        return self._convolve(values, weight, bias, _plan(weight, len(values), sites, level))

    def pointwise(self, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with a 1×1 kernel."""
        return self._convolve(values, weight, bias, _pointwise(len(values)))

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
        return self._activate(values, shortcut, norm, training, None)

    def activate_apart(self, values: Tensor, shortcut: Tensor | None, norm: Normalization, sizes: list[int]) -> Tensor:
        """Normalize part by part, add the shortcut, rectify."""
        return self._activate(values, shortcut, norm, True, sizes)

    def block(
        self,
        values: Tensor,
        layers: Sequence[Layer],
        sites: Sites,
        level: int,
        *,
        residual: bool,
        training: bool,
        sizes: list[int] | None,
    ) -> Tensor:
        """Compute layer after layer, and add the values before the last ReLU where `residual`."""
        values, kernels = self._ready(values)
        parameters: list[Tensor | None] = []
        for layer in layers:
            parameters += [*_parameters(layer.weight, layer.bias, values), layer.norm.weight, layer.norm.bias]
        plans = [_plan(layer.weight, len(values), sites, level) for layer in layers]
        statistics = [_statistics(layer.norm, values, training, sizes) for layer in layers]
        return _apply(_Block, values, residual, plans, statistics, kernels, *parameters)

    def _activate(
        self,
        values: Tensor,
        shortcut: Tensor | None,
        norm: Normalization | None,
        training: bool,
        sizes: list[int] | None,
    ) -> Tensor:
        values, kernels = self._ready(values)
        if shortcut is not None:
            shortcut = shortcut.to(values.dtype).contiguous()
        statistics = _statistics(norm, values, training, sizes)
        weight, bias = (None, None) if norm is None else (norm.weight, norm.bias)
        return _apply(_Activation, values, shortcut, weight, bias, statistics, kernels)

    def _convolve(self, values: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan) -> Tensor:
        values, kernels = self._ready(values)
        return _apply(_Convolution, values, *_parameters(weight, bias, values), plan, kernels)

    def _ready(self, values: Tensor) -> tuple[Tensor, Kernels]:
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


def _plan(weight: Tensor, count: int, sites: Sites, level: int) -> Plan:
    """Plan a convolution that keeps its sites."""
    size = weight.shape[-1]
    if size == 1:
        return _pointwise(count)
    rules = sites.levels[level].rules[size]
    return Plan(rules, rules, mirrored=True)


def _pointwise(count: int) -> Plan:
    rules = Rules.pointwise(count)
    return Plan(rules, rules)


def _parameters(weight: Tensor, bias: Tensor | None, values: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a convolution in the type of the values."""
    return weight.to(values.dtype).contiguous(), None if bias is None else bias.to(values.dtype)


def _statistics(norm: Normalization | None, values: Tensor, training: bool, sizes: list[int] | None) -> Statistics:
    """Say by what to normalize: `sizes` are the parts of the sites, if they are normalized apart."""
    if norm is None:
        return Statistics(False, cpu_layers.parts_of([len(values)]))
    if norm.weight.dtype != values.dtype:
        raise TypeError(f"a normalization of {norm.weight.dtype} cannot take values of {values.dtype}")
    running = (norm.running_mean, norm.running_var, norm.momentum)
    if sizes is not None:
        return Statistics(True, cpu_layers.parts_of(sizes), running)
    return Statistics(training and len(values) > 1, cpu_layers.parts_of([len(values)]), running)


class _Convolution(torch.autograd.Function):
    """Values [inputs sites, I], weight, bias, plan, kernels → [output sites, O]."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, kernels: Kernels) -> Tensor:
        ctx.save_for_backward(values, weight)
        ctx.plan, ctx.kernels, ctx.biased = plan, kernels, bias is not None
        return cpu_layers.convolve(values, weight, bias, plan, kernels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        slope, by_values, by_weight, by_bias = slope.contiguous(), None, None, None
        if ctx.needs_input_grad[0]:
            by_values = cpu_layers.convolve_slopes(slope, weight, ctx.plan, ctx.kernels)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            by_weight, by_bias = cpu_layers.correlate(values, slope, weight, ctx.biased, ctx.plan, ctx.kernels)
        return by_values, by_weight, by_bias, None, None


class _Activation(torch.autograd.Function):
    """Values and shortcut [S, C], weight and bias [C] or None, by what to normalize, kernels → [S, C]."""

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        shortcut: Tensor | None,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: Statistics,
        kernels: Kernels,
    ) -> Tensor:
        result, moments = cpu_layers.activate(values, shortcut, weight, bias, statistics, kernels)
        computed_again = shortcut is None and weight is not None
        ctx.save_for_backward(values, None if computed_again else result, weight, bias, moments)
        ctx.statistics, ctx.kernels, ctx.added = statistics, kernels, shortcut is not None
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        values, result, weight, bias, moments = ctx.saved_tensors
        slopes = cpu_layers.activate_slopes(
            slope.contiguous(), values, result, weight, bias, moments, ctx.statistics, ctx.kernels, added=ctx.added
        )
        return *slopes, None, None


class _Block(torch.autograd.Function):
    """Values [S, I], whether to add them before the last ReLU, plans, by what to normalize, kernels, parameters → [S, C].

    Parameters are, for each layer, weight and bias of the convolution, weight and bias of the normalization. One function
    instead of two for each layer: less of Python between kernels, and slopes are added up where they are computed.
    """

    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        residual: bool,
        plans: list[Plan],
        statistics: list[Statistics],
        kernels: Kernels,
        *parameters: Tensor | None,
    ) -> Tensor:
        result = values
        kept: list[Tensor | None] = [values]
        for number, (plan, by) in enumerate(zip(plans, statistics, strict=True)):
            weight, bias, scale, offset = parameters[4 * number :][:4]
            assert weight is not None
            convolved = cpu_layers.convolve(result, weight, bias, plan, kernels)
            shortcut = values if residual and number == len(plans) - 1 else None
            result, moments = cpu_layers.activate(convolved, shortcut, scale, offset, by, kernels)
            kept += [weight, scale, offset, convolved, moments, result]
        ctx.save_for_backward(*kept)
        ctx.residual, ctx.plans, ctx.statistics, ctx.kernels = residual, plans, statistics, kernels
        ctx.biased = [bias is not None for bias in parameters[1::4]]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        kept, kernels = ctx.saved_tensors, ctx.kernels
        slope, added = slope.contiguous(), None
        slopes: list[Tensor | None] = []
        for number in reversed(range(len(ctx.plans))):
            values, weight, scale, offset, convolved, moments, result = kept[6 * number :][:7]
            plan, last, first = ctx.plans[number], number == len(ctx.plans) - 1, number == 0
            residual = ctx.residual and last
            slope, shortcut, *by_norm = cpu_layers.activate_slopes(
                slope, convolved, result if residual else None, scale, offset, moments, ctx.statistics[number], kernels,
                added=residual, in_place=not last,
            )  # fmt: skip
            added = shortcut if residual else added
            by_conv = cpu_layers.correlate(values, slope, weight, ctx.biased[number], plan, kernels)
            slopes = [*by_conv, *by_norm, *slopes]
            if not first or ctx.needs_input_grad[0]:
                slope = cpu_layers.convolve_slopes(slope, weight, plan, kernels, added=added if first else None)
        return slope if ctx.needs_input_grad[0] else None, None, None, None, None, *slopes


class _Pool(torch.autograd.Function):
    """Maximum over active children: [S, C] → [sites below, C]; of equal ones the first takes the gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, links: CpuLevel, kernels: Kernels) -> Tensor:
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
    def forward(ctx: Any, values: Tensor, links: CpuLevel, kernels: Kernels) -> Tensor:
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
