"""Batch normalization with the statistics of the images of all ranks, on any device."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cosmictagger.models.parameters import EPSILON, Normalization

# Adds up a float64 vector over the ranks, all of which call it in the same order.
Reduce = Callable[[Tensor], Tensor]


def synchronize(network: nn.Module, reduce: Reduce) -> None:
    """Let all normalizations by the batch take their statistics over ranks, while training."""
    for part in network.modules():
        if isinstance(part, Normalization) and not part.of_image:
            part.reduce = reduce


def batch_norm(features: Tensor, norm: Normalization, reduce: Reduce) -> Tensor:
    """Normalize features [B, C, ...] as a training step does, and update the running statistics.

    Equal to `torch.nn.functional.batch_norm` of the features of all ranks side by side, forward and backward.
    """
    result, mean, variance, count = _BatchNorm.apply(features, norm.weight, norm.bias, reduce)  # type: ignore[no-untyped-call]
    assert norm.running_mean is not None and norm.running_var is not None  # only statistics of the batch are shared
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        # Torch, too, puts the unbiased variance into the running one.
        norm.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)).to(variance.dtype), norm.momentum)
    normalized: Tensor = result
    return normalized


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, reduce: Reduce
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, mean, variance = _moments(features, reduce)
        ctx.save_for_backward(features, weight, mean, variance, count)
        ctx.reduce = reduce
        ctx.mark_non_differentiable(mean, variance, count)
        result = F.batch_norm(features, mean, variance, weight, bias, training=False, eps=EPSILON)
        return result, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        features, weight, mean, variance, count = ctx.saved_tensors
        result, by_weight, by_bias = _with_constant_moments(gradient, features, weight, mean, variance)
        sums = ctx.reduce(torch.cat((by_weight, by_bias)).double())
        of_weight, of_bias = (sums / count).to(weight.dtype).chunk(2)
        inverse = (variance + EPSILON).rsqrt()
        slope = weight * inverse * inverse * of_weight
        offset = weight * inverse * of_bias - slope * mean
        # What has been left out: mean and variance depend on the features of all ranks.
        shape = (1, -1, *(1,) * (features.dim() - 2))
        result -= torch.addcmul(offset.view(shape), features, slope.view(shape))
        return result, by_weight, by_bias, None


def _with_constant_moments(
    gradient: Tensor, features: Tensor, weight: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients by features, weight and bias as if mean and variance were constants."""
    if not features.numel():  # PyTorch's own function crashes on nothing
        return torch.zeros_like(features), torch.zeros_like(weight), torch.zeros_like(weight)
    result, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
        gradient, features, weight, mean, variance, None, None, False, EPSILON, [True, True, True]
    )
    return result, by_weight, by_bias


def _moments(features: Tensor, reduce: Reduce) -> tuple[Tensor, Tensor, Tensor]:
    """Return the number of values of a channel over all ranks (float64), and mean and variance ([C], 32 bits or more)."""
    channels, dtype = features.shape[1], torch.promote_types(features.dtype, torch.float32)
    own = torch.zeros(1 + 2 * channels, dtype=torch.float64, device=features.device)
    number = features.numel() // channels
    if number:
        axes = (0, *range(2, features.dim()))
        variance, mean = (m.double() for m in torch.var_mean(features.to(dtype), dim=axes, correction=0))
        own[0] = number
        own[1:] = number * torch.cat((mean, variance + mean * mean))
    total = reduce(own)
    count = total[:1].clamp(min=1)
    mean, squares = (total[1:] / count).chunk(2)
    return count, mean.to(dtype), (squares - mean * mean).clamp(min=0).to(dtype)
