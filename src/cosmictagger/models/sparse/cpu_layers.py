"""Convolutions, activations and pooling of the `cpu` engine and their gradients, without automatic differentiation.

Here addresses of arrays are given to the compiled kernels, and nothing is remembered: who calls these functions keeps
what their gradients need. All tensors are contiguous and of the type of the kernels.
"""

import ctypes
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from cosmictagger.models.parameters import EPSILON
from cosmictagger.models.sparse.cpu_rules import CpuLevel, Plan
from cosmictagger.models.sparse.native.library import Function

Kernels = dict[str, Function]


class Statistics(NamedTuple):
    """By what an activation normalizes.

    In `training` by mean and variance of each part of the sites, and by the `running` ones (mean, variance, momentum)
    otherwise; those are kept where there are any. `parts` are the starts of the parts and their end, for the kernels.
    """

    training: bool
    parts: ctypes.Array[ctypes.c_int64]
    running: tuple[Tensor | None, Tensor | None, float] = (None, None, 0.0)


def parts_of(sizes: Sequence[int]) -> "ctypes.Array[ctypes.c_int64]":
    """Cut the sites into parts of these sizes."""
    return (ctypes.c_int64 * (len(sizes) + 1))(*itertools.accumulate(sizes, initial=0))


def convolve(values: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, kernels: Kernels) -> Tensor:
    """Convolve: values [input sites, I] → [output sites, O]."""
    outputs = weight.shape[1 if plan.transposed else 0]
    result = values.new_empty(plan.forward.arguments[0], outputs)
    kernels["convolve"](
        *plan.forward.arguments, values.data_ptr(), values.shape[1], weight.data_ptr(), *plan.strides(weight),
        False, _address(bias), None, result.data_ptr(), outputs, torch.get_num_threads(),
    )  # fmt: skip
    return result


def convolve_slopes(slope: Tensor, weight: Tensor, plan: Plan, kernels: Kernels, added: Tensor | None = None) -> Tensor:
    """Compute the gradient of a convolution by its values, to which `added` is added and whose memory it takes."""
    inputs = weight.shape[0 if plan.transposed else 1]
    result = slope.new_empty(plan.backward.arguments[0], inputs) if added is None else added
    tap, row, column = plan.strides(weight)
    kernels["convolve"](
        *plan.backward.arguments, slope.data_ptr(), slope.shape[1], weight.data_ptr(), tap, column, row, plan.mirrored,
        None, _address(added), result.data_ptr(), inputs, torch.get_num_threads(),
    )  # fmt: skip
    return result


def correlate(
    values: Tensor, slope: Tensor, weight: Tensor, biased: bool, plan: Plan, kernels: Kernels
) -> tuple[Tensor, Tensor | None]:
    """Compute the gradient of a convolution by its weight, and by its bias if it has one."""
    outputs, by_weight = slope.shape[1], torch.empty_like(weight)
    by_bias = slope.new_empty(outputs) if biased else None
    kernels["correlate"](
        *plan.forward.arguments, values.data_ptr(), values.shape[1], slope.data_ptr(), outputs, by_weight.data_ptr(),
        *plan.strides(weight), _address(by_bias), torch.get_num_threads(),
    )  # fmt: skip
    return by_weight, by_bias


def activate(
    values: Tensor,
    shortcut: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    statistics: Statistics,
    kernels: Kernels,
) -> tuple[Tensor, Tensor]:
    """Normalize where there is a weight, add the shortcut where there is one, rectify: [S, C] → [S, C].

    Also returns what its gradient needs: [2, parts, C], means and ones over standard deviations.
    """
    training, parts, (mean, variance, momentum) = statistics
    result, channels, count = torch.empty_like(values), values.shape[1], len(parts) - 1
    moments = values.new_empty(2, count, channels)
    kernels["activate"](
        values.data_ptr(), _address(shortcut), _address(weight), _address(bias), _address(mean), _address(variance),
        momentum, EPSILON, training, *_both(moments), result.data_ptr(), ctypes.addressof(parts), count, channels,
        torch.get_num_threads(),
    )  # fmt: skip
    return result, moments


def activate_again(
    values: Tensor, weight: Tensor, bias: Tensor, moments: Tensor, statistics: Statistics, kernels: Kernels
) -> Tensor:
    """Compute again what `activate` returned with a weight, without a shortcut and with these moments."""
    result, parts = torch.empty_like(values), statistics.parts
    kernels["rectify"](
        values.data_ptr(), weight.data_ptr(), bias.data_ptr(), *_both(moments), result.data_ptr(),
        ctypes.addressof(parts), len(parts) - 1, values.shape[1], torch.get_num_threads(),
    )  # fmt: skip
    return result


def activate_slopes(
    slope: Tensor,
    values: Tensor,
    result: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    moments: Tensor,
    statistics: Statistics,
    kernels: Kernels,
    *,
    added: bool,
    in_place: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Compute the gradients of an activation by its values, by a shortcut that was `added`, by weight and bias.

    `result` is that of `activate`; it may be None where there was a weight and no shortcut, and is computed again then,
    from less memory. With `in_place` the gradient by values takes the memory of `slope`.
    """
    training, parts, _ = statistics
    by_values, by_shortcut = slope if in_place else torch.empty_like(slope), torch.empty_like(slope) if added else None
    by_weight, by_bias = (None, None) if weight is None else (torch.empty_like(weight), torch.empty_like(weight))
    kernels["activate_slopes"](
        values.data_ptr(), _address(result), slope.data_ptr(), _address(weight), _address(bias), training, *_both(moments),
        by_values.data_ptr(), _address(by_shortcut), _address(by_weight), _address(by_bias), ctypes.addressof(parts),
        len(parts) - 1, values.shape[1], torch.get_num_threads(),
    )  # fmt: skip
    return by_values, by_shortcut, by_weight, by_bias


def pool(values: Tensor, links: CpuLevel, kernels: Kernels) -> tuple[Tensor, Tensor]:
    """Take the maximum over active children: [S, C] → [sites below, C], and the slots of the (first) largest ones."""
    result = values.new_empty(links.parents, values.shape[1])
    slots = torch.empty(result.shape, dtype=torch.uint8)
    kernels["pool"](
        values.data_ptr(), links.children, *result.shape, result.data_ptr(), slots.data_ptr(), torch.get_num_threads()
    )
    return result, slots


def pool_slopes(slope: Tensor, slots: Tensor, links: CpuLevel, kernels: Kernels) -> Tensor:
    """Compute the gradient of `pool` by its values: of equal ones the first takes all."""
    result = slope.new_empty(links.sites, slope.shape[1])
    kernels["pool_slopes"](
        slope.data_ptr(), slots.data_ptr(), links.family, *result.shape, result.data_ptr(), torch.get_num_threads()
    )
    return result


def unpool(values: Tensor, added: Tensor | None, links: CpuLevel, kernels: Kernels) -> Tensor:
    """Copy to active children and add what is `added`: [sites below, C] → [S, C]."""
    result = values.new_empty(links.sites, values.shape[1])
    kernels["unpool"](
        values.data_ptr(), links.family, *result.shape, _address(added), result.data_ptr(), torch.get_num_threads()
    )
    return result


def unpool_slopes(slope: Tensor, links: CpuLevel, kernels: Kernels) -> Tensor:
    """Compute the gradient of `unpool` by its values."""
    result = slope.new_empty(links.parents, slope.shape[1])
    kernels["unpool_slopes"](
        slope.data_ptr(), links.children, *result.shape, result.data_ptr(), torch.get_num_threads()
    )
    return result


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _both(moments: Tensor) -> tuple[int, int]:
    """Return the addresses of means and of ones over standard deviations."""
    first = moments.data_ptr()
    return first, first + moments.stride(0) * moments.element_size()
