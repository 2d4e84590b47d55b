"""Chains of the `cpu` engine: blocks, pooling and copies in turn, as one function of automatic differentiation.

Python between kernels costs time, more where kernels have just emptied the caches of it; one function has less of it than
one for each step. And a chain knows what its own way back needs: what a layer without a shortcut returns is computed
again from what its convolution gave, which the way back reads anyway, and so less is written to memory and kept there.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.models.sparse import cpu_layers
from cosmictagger.models.sparse.cpu_layers import Kernels, Statistics
from cosmictagger.models.sparse.cpu_rules import CpuLevel, Plan


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution, its normalization, perhaps an added shortcut, and ReLU.

    Of the chain's tensors, those from `parameters` on are weight and bias of the convolution, weight and bias of the
    normalization. Of its values, the one of number `shortcut` is added.
    """

    parameters: int
    plan: Plan
    statistics: Statistics
    shortcut: int | None


@dataclasses.dataclass(frozen=True)
class Pooling:
    """The maximum over active children."""

    links: CpuLevel


@dataclasses.dataclass(frozen=True)
class Copying:
    """Copies to active children, to which the chain's tensor of number `added` is added."""

    links: CpuLevel
    added: int | None


@dataclasses.dataclass(frozen=True)
class Adding:
    """The chain's tensor of number `added` is added."""

    added: int


Step = Layer | Pooling | Copying | Adding
OF_LAYER = ("weight", "scale", "offset", "convolved", "moments")  # what its way back needs
Saved = dict[tuple[str, int], Any]  # tensors for the way back: what they are, and of which step (or which value)


def run(values: Tensor, steps: Sequence[Step], tensors: Sequence[Tensor | None], kernels: Kernels) -> Tensor:
    """Compute the steps in turn: value 0 is `values`, value n what the first n steps return."""
    result: Tensor = _Chain.apply(values, steps, kernels, *tensors)  # type: ignore[no-untyped-call]
    return result


class _Chain(torch.autograd.Function):
    """Value 0, steps, kernels, tensors of the steps → the last value."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, steps: Sequence[Step], kernels: Kernels, *tensors: Tensor | None) -> Tensor:
        kept = _kept(steps) if any(ctx.needs_input_grad) else None
        shortcuts = {step.shortcut for step in steps if isinstance(step, Layer)}
        saved: Saved = {}
        held: dict[int, Tensor] = {}
        for number, step in enumerate(steps):
            if kept and number in kept:
                saved["value", number] = values
            if number in shortcuts:
                held[number] = values
            if isinstance(step, Layer):
                weight, bias, scale, offset = tensors[step.parameters :][:4]
                assert weight is not None
                convolved = cpu_layers.convolve(values, weight, bias, step.plan, kernels)
                shortcut = None if step.shortcut is None else held.pop(step.shortcut)
                values, moments = cpu_layers.activate(convolved, shortcut, scale, offset, step.statistics, kernels)
                if kept is not None:
                    these = zip(OF_LAYER, (weight, scale, offset, convolved, moments), strict=True)
                    saved |= {(name, number): tensor for name, tensor in these}
            elif isinstance(step, Pooling):
                values, slots = cpu_layers.pool(values, step.links, kernels)
                if kept is not None:
                    saved["slots", number] = slots
            elif isinstance(step, Copying):
                added = None if step.added is None else tensors[step.added]
                values = cpu_layers.unpool(values, added, step.links, kernels)
            else:
                added = tensors[step.added]
                assert added is not None
                values = values + added
        if kept and len(steps) in kept:
            saved["value", len(steps)] = values
        ctx.save_for_backward(*saved.values())
        ctx.names, ctx.steps, ctx.kernels = list(saved), steps, kernels
        ctx.given = [tensor is not None for tensor in tensors]
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        saved: Saved = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        steps, kernels = ctx.steps, ctx.kernels
        by_tensors: list[Tensor | None] = [None] * len(ctx.given)
        by_shortcuts: dict[int, Tensor | None] = {}
        slope, own = slope.contiguous(), False  # whether its memory may be written to
        for number in reversed(range(len(steps))):
            step = steps[number]
            if isinstance(step, Layer):
                values = _value(number, steps, saved, kernels)
                residual, first = step.shortcut is not None, step.parameters
                weight, scale, offset, convolved, moments = (saved[name, number] for name in OF_LAYER)
                slope, by_shortcut, by_tensors[first + 2], by_tensors[first + 3] = cpu_layers.activate_slopes(
                    slope, convolved, saved["value", number + 1] if residual else None, scale, offset, moments,
                    step.statistics, kernels, added=residual, in_place=own,
                )  # fmt: skip
                own = True
                if step.shortcut is not None:
                    by_shortcuts[step.shortcut] = by_shortcut
                by_tensors[first], by_tensors[first + 1] = cpu_layers.correlate(
                    values, slope, weight, ctx.given[first + 1], step.plan, kernels
                )
                if number or ctx.needs_input_grad[0]:
                    added = by_shortcuts.pop(number, None)
                    slope = cpu_layers.convolve_slopes(slope, weight, step.plan, kernels, added=added)
            elif isinstance(step, Pooling):
                slope, own = cpu_layers.pool_slopes(slope, saved["slots", number], step.links, kernels), True
            elif isinstance(step, Copying):
                if step.added is not None:
                    by_tensors[step.added] = slope
                slope, own = cpu_layers.unpool_slopes(slope, step.links, kernels), True
            else:
                by_tensors[step.added], own = slope, False
        return slope if ctx.needs_input_grad[0] else None, None, None, *by_tensors


def _kept(steps: Sequence[Step]) -> set[int]:
    """Number the values that the way back needs and cannot compute again."""
    layers = {number: step for number, step in enumerate(steps) if isinstance(step, Layer)}
    inputs = {number for number in layers if _maker(number, steps) is None}
    # What is left after a shortcut was added tells where it was rectified.
    return inputs | {number + 1 for number, layer in layers.items() if layer.shortcut is not None}


def _maker(number: int, steps: Sequence[Step]) -> Layer | None:
    """Return the layer that returned a value, if it can do so again: one without a shortcut."""
    before = steps[number - 1] if number else None
    return before if isinstance(before, Layer) and before.shortcut is None else None


def _value(number: int, steps: Sequence[Step], saved: Saved, kernels: Kernels) -> Tensor:
    """Return a value that was kept, or compute it again."""
    maker = _maker(number, steps)
    if maker is None:
        value: Tensor = saved["value", number]
        return value
    _, scale, offset, convolved, moments = (saved[name, number - 1] for name in OF_LAYER)
    return cpu_layers.activate_again(convolved, scale, offset, moments, maker.statistics, kernels)
