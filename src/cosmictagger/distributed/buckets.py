"""Gradients side by side in flat buffers, so that a few large messages replace hundreds of small ones."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SIXTEEN_BITS = (torch.float16, torch.bfloat16)


class Bucket:
    """The gradients of some parameters in one flat buffer, made once.

    A gradient enters with `put`, already divided by the number of ranks, so that a sum is an average. When the
    buffer has been summed, `deliver` makes the parameters' gradients views of it. Gradients of 16 bits are
    widened to 32 here: sums of many ranks need the digits, and MPI knows no bfloat16.
    """

    def __init__(self, parameters: Sequence[Tensor], numbers: Sequence[int], scale: float) -> None:
        first = parameters[numbers[0]]
        self.numbers = tuple(numbers)
        sizes = [parameters[number].numel() for number in numbers]
        self.flat = torch.zeros(sum(sizes), dtype=_dtype(first), device=first.device)
        self.work: Any = None  # whatever a transport keeps for this bucket from step to step
        self._scale = scale
        starts = itertools.accumulate(sizes, initial=0)
        self._views = {n: _like(parameters[n], self.flat, start) for n, start in zip(numbers, starts, strict=False)}
        self._missing = set(numbers)

    @property
    def complete(self) -> bool:
        """Whether all gradients of this step are in."""
        return not self._missing

    def lacks(self, number: int) -> bool:
        """Say whether the gradient of a parameter of this bucket is yet to come."""
        return number in self._missing

    def put(self, number: int, parameter: Tensor) -> None:
        """Take in the gradient of a parameter; none counts as zero."""
        if parameter.grad is None:
            self._views[number].zero_()
        else:
            torch.mul(parameter.grad, self._scale, out=self._views[number])
        self._missing.discard(number)

    def deliver(self, parameters: Sequence[Tensor]) -> None:
        """Hand the summed gradients to their parameters, and wait for those of the next step."""
        for number, view in self._views.items():
            parameter = parameters[number]
            parameter.grad = view.to(parameter.dtype)
        self._missing = set(self.numbers)


def fill_buckets(parameters: Sequence[Tensor], order: Sequence[int], size: float, scale: float) -> list[Bucket]:
    """Put parameters, taken in `order`, into buckets of one type and device and at most `size` bytes (or one parameter)."""
    groups: list[list[int]] = []
    open_groups: dict[tuple[torch.dtype, torch.device], tuple[list[int], int]] = {}
    for number in order:
        parameter = parameters[number]
        kind = (_dtype(parameter), parameter.device)
        length = parameter.numel() * kind[0].itemsize
        group, used = open_groups.get(kind, ([], 0))
        if not group or used + length > size:
            group, used = [], 0
            groups.append(group)
        group.append(number)
        open_groups[kind] = (group, used + length)
    return [Bucket(parameters, group, scale) for group in groups]


def _like(parameter: Tensor, flat: Tensor, start: int) -> Tensor:
    """View a part of `flat` as the parameter lies in memory: PyTorch's fused optimizers pair elements by their place."""
    return flat.as_strided(parameter.shape, parameter.stride(), start)


def _dtype(parameter: Tensor) -> torch.dtype:
    return torch.float32 if parameter.dtype in SIXTEEN_BITS else parameter.dtype
