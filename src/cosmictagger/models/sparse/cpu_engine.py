"""The engine of compiled kernels: float32 and float64 on CPUs, with results that do not depend on the threads."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.models.parameters import Normalization
from cosmictagger.models.sparse import cpu_chain, cpu_layers, cpu_ticks, engine
from cosmictagger.models.sparse.cpu_layers import Kernels, Statistics
from cosmictagger.models.sparse.cpu_rules import CpuLevel, Plan, Rules
from cosmictagger.models.sparse.engine import Sites, place
from cosmictagger.models.sparse.native.library import NAMES, Library
from cosmictagger.models.sparse.native.library import load as load_library
from cosmictagger.models.sparse.sites import SiteTables


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
        return self.chain(values, [engine.Pool()], sites, level)

    def unpool(self, values: Tensor, sites: Sites, level: int) -> Tensor:
        """Copy to active children, one level up."""
        return self.chain(values, [engine.Unpool()], sites, level + 1)

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
        return self._activate(values, shortcut, norm, training, [len(values)], apart=False)

    def activate_apart(self, values: Tensor, shortcut: Tensor | None, norm: Normalization, sizes: list[int]) -> Tensor:
        """Normalize part by part, add the shortcut, rectify."""
        return self._activate(values, shortcut, norm, True, sizes, apart=True)

    def chain(self, values: Tensor, steps: Sequence[engine.Step], sites: Sites, level: int) -> Tensor:
        """Compute the steps in turn."""
        values, kernels = self._ready(values)
        taken: list[cpu_chain.Step] = []
        tensors: list[Tensor | None] = []
        for step in steps:
            if isinstance(step, engine.Block):
                first = len(taken)
                for layer in step.layers:
                    shortcut = first if step.residual and layer is step.layers[-1] else None
                    taken.append(_layer(layer, values.dtype, sites, level, len(tensors), shortcut))
                    tensors += [*_parameters(layer.weight, layer.bias, values), layer.norm.weight, layer.norm.bias]
            elif isinstance(step, engine.Pool):
                taken.append(cpu_chain.Pooling(sites.levels[level]))
                level += 1
            elif isinstance(step, engine.Unpool):
                level -= 1
                taken.append(cpu_chain.Copying(sites.levels[level], None))
            else:
                last = taken[-1] if taken else None
                if isinstance(last, cpu_chain.Copying) and last.added is None:
                    taken[-1] = cpu_chain.Copying(last.links, len(tensors))
                else:
                    taken.append(cpu_chain.Adding(len(tensors)))
                tensors.append(step.values.to(values.dtype).contiguous())
        return cpu_chain.run(values, taken, tensors, kernels)

    def _activate(
        self,
        values: Tensor,
        shortcut: Tensor | None,
        norm: Normalization | None,
        training: bool,
        sizes: Sequence[int],
        *,
        apart: bool,
    ) -> Tensor:
        values, kernels = self._ready(values)
        if shortcut is not None:
            shortcut = shortcut.to(values.dtype).contiguous()
        statistics = _statistics(norm, values.dtype, training, sizes, apart=apart)
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


def _layer(
    layer: engine.Layer, dtype: torch.dtype, sites: Sites, level: int, parameters: int, shortcut: int | None
) -> cpu_chain.Layer:
    """Plan a layer of a chain."""
    norm, sizes = layer.norm, sites.image_sizes[level]
    plan = _plan(layer.weight, sum(sizes), sites, level)
    statistics = _statistics(norm, dtype, norm.training, sizes, apart=norm.of_image)
    return cpu_chain.Layer(parameters, plan, statistics, shortcut)


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


def _statistics(
    norm: Normalization | None, dtype: torch.dtype, training: bool, sizes: Sequence[int], *, apart: bool
) -> Statistics:
    """Say by what to normalize: all sites, or where `apart` parts of them, of these sizes (of which 0 is none)."""
    together = cpu_layers.parts_of([sum(sizes)])
    if norm is None:
        return Statistics(False, together)
    if norm.weight.dtype != dtype:
        raise TypeError(f"a normalization of {norm.weight.dtype} cannot take values of {dtype}")
    running = (norm.running_mean, norm.running_var, norm.momentum)
    if apart:
        return Statistics(True, cpu_layers.parts_of([size for size in sizes if size]), running)
    return Statistics(training and sum(sizes) > 1, together, running)


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
