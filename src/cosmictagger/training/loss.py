"""Cross-entropy over pixels, balanced between the classes.

The loss of a batch is the mean over its images of the loss of each; the loss of an image is the mean over its
pixels, weighted so that its weights add up to 1. So neither depends on how images are spread over ranks and
micro-steps: N ranks of b images, gradients averaged, equal one rank of N·b.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cosmictagger.config.sections import TrainingConfig

Scheme = Literal["none", "light", "even", "focal", "iou"]

CLASSES = 3
LIGHT_WEIGHTS = (1.0, 1.5, 10.0)
PIXELS_PER_THREAD = 1 << 15
# Pixels added to intersection and union: a claim of this many where there is nothing halves the soft IoU.
IOU_SMOOTHING = 10.0


def balance_scheme(config: TrainingConfig) -> Scheme:
    """Return the scheme to balance with: ``none`` where --balance-loss is off."""
    return config.loss_balance_scheme if config.balance_loss else "none"


def dense_loss(
    logits: Tensor, label: Tensor, scheme: Scheme, *, valid: Tensor | None = None, normalizer: float | None = None
) -> Tensor:
    """Compute the loss of `logits` [N, P, 3, ...] against `label` [N, P, ...] as a float32 scalar.

    Logits may be of any floating type and memory layout, labels of any integer type with values 0 to 2.
    `valid` [N] is False for padding images, which add neither loss nor gradient. `normalizer` is the number
    of images to divide by [the valid ones]: with padding anywhere, give the valid images of all ranks and
    micro-steps over the number of ranks and micro-steps, and averaged gradients are exact.
    """
    logits, label = logits.flatten(0, 1).flatten(2), label.flatten(2)
    counts = torch.stack([(label == kind).sum(dim=2) for kind in range(CLASSES)], dim=2)
    images = _image_weights(valid, normalizer, counts)
    weights = _class_weights(counts, scheme) * images
    loss = _cross_entropy(logits, label.flatten(0, 1), weights.flatten(0, 1)[:, :, None], scheme)
    if scheme != "iou":
        return loss
    probability = torch.softmax(logits.float(), dim=1)
    claimed = probability.sum(dim=2)
    right = torch.stack([(probability[:, k] * (label.flatten(0, 1) == k)).sum(dim=1) for k in range(CLASSES)], dim=1)
    return loss + _soft_iou_loss(right.view(counts.shape), claimed.view(counts.shape), counts, images)


def sparse_loss(
    logits: Tensor,
    label: Tensor,
    image_plane: Tensor,
    images: int,
    planes: int,
    scheme: Scheme,
    *,
    valid: Tensor | None = None,
    normalizer: float | None = None,
) -> Tensor:
    """Compute the loss of the active pixels: `logits` [S, 3], `label` [S], `image_plane` [S] = image * planes + plane.

    The rest is as in `dense_loss`; pixels that are not active take no part. The loss of an image without any
    is 0, and it counts as an image.
    """
    image_plane = image_plane.to(torch.int64)
    cells = image_plane * CLASSES + label
    counts = torch.bincount(cells, minlength=images * planes * CLASSES).view(images, planes, CLASSES)
    all_images = _image_weights(valid, normalizer, counts)
    weights = _class_weights(counts, scheme) * all_images
    site_weights = weights.flatten().float().index_select(0, cells)
    # Classes first: a softmax over an axis that lies innermost in memory takes three times as long.
    loss = _cross_entropy(logits.t()[None], label[None], site_weights[None, None], scheme)
    if scheme != "iou":
        return loss
    probability = torch.softmax(logits.t().contiguous().float(), dim=0)
    claimed = probability.new_zeros(CLASSES, images * planes).index_add(1, image_plane, probability).t()
    of_label = probability.gather(0, label.to(torch.int64)[None])[0]
    right = probability.new_zeros(images * planes * CLASSES).index_add(0, cells, of_label)
    return loss + _soft_iou_loss(right.view(counts.shape), claimed.reshape(counts.shape), counts, all_images)


def mean_of_images(losses: Tensor, valid: Tensor, normalizer: float | None = None) -> Tensor:
    """Average the losses [N] of images; `valid` and `normalizer` as in `dense_loss`."""
    return (losses * _image_weights(valid, normalizer, losses).flatten()).sum().float()


def _class_weights(counts: Tensor, scheme: Scheme) -> Tensor:
    """Weigh a pixel by its image, plane and class: [N, P, 3] from the pixel counts of the same shape.

    Over the pixels of an image the weights add up to 1; to 0 where it has none.
    """
    pixels = counts.double()
    if scheme == "even":
        # Every class that a plane shows weighs the same there, and every plane that shows any in the image.
        weights = pixels.clamp(min=1).reciprocal() / (pixels > 0).sum(dim=2, keepdim=True).clamp(min=1)
    elif scheme == "light":
        weights = pixels.new_tensor(LIGHT_WEIGHTS).expand_as(pixels)
    else:
        weights = torch.ones_like(pixels)
    total = (weights * pixels).sum(dim=(1, 2), keepdim=True)
    return torch.where(total > 0, weights / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)


def _soft_iou_loss(right: Tensor, claimed: Tensor, true: Tensor, images: Tensor) -> Tensor:
    """Return 1 - the soft IoU of cosmic and neutrino pixels, averaged over planes and classes, summed over `images`.

    Probabilities stand for predictions: `right` [N, P, 3] sums those of the true class, `claimed` those of each class.
    """
    union = claimed + true - right
    iou = ((right + IOU_SMOOTHING) / (union + IOU_SMOOTHING))[:, :, 1:]
    return ((1 - iou).mean(dim=(1, 2)) * images.flatten()).sum().float()


def _image_weights(valid: Tensor | None, normalizer: float | None, counts: Tensor) -> Tensor:
    """Weigh the images [N, 1, 1] for a mean over the valid ones."""
    if valid is None:
        valid = counts.new_ones(len(counts))
    valid = valid.to(counts.device, torch.float64)
    images = valid.sum().clamp(min=1) if normalizer is None else normalizer
    return (valid / images)[:, None, None]


def _cross_entropy(logits: Tensor, label: Tensor, weights: Tensor, scheme: Scheme) -> Tensor:
    """Sum the weighted cross-entropy: logits [B, 3, S], label [B, S], weights of classes [B, 3, 1] or pixels [B, 1, S]."""
    loss: Tensor = _CrossEntropy.apply(logits, label, weights.float(), scheme == "focal")  # type: ignore[no-untyped-call]
    return loss


class _CrossEntropy(torch.autograd.Function):
    """Computes loss and gradient in one sweep.

    A 640 × 1024 image has 2 million pixels and the arithmetic on each is little. So what costs is memory: taken
    part by part, all that lies between logits and gradient stays in the caches, and the gradient is the one
    large array that is made, once, in the layout and type of the logits.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, weights: Tensor, focal: bool) -> Tensor:
        # float16 would lose it before `backward` multiplies by the loss scale.
        held = torch.float32 if logits.dtype is torch.float16 else logits.dtype
        gradient = torch.empty_like(logits, dtype=held) if ctx.needs_input_grad[0] else None
        losses = []
        for rows, columns in _parts(logits):
            weight = weights[rows] if weights.shape[2] == 1 else weights[rows, :, columns]
            loss, derivative = _sweep(logits[rows, :, columns], label[rows, columns], weight, focal)
            losses.append(loss)
            if gradient is not None:
                gradient[rows, :, columns] = derivative
        ctx.gradient, ctx.dtype = gradient, logits.dtype
        return torch.stack(losses).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor, None, None, None]:
        gradient, ctx.gradient = ctx.gradient, None
        if gradient is None:
            raise RuntimeError("the loss keeps its gradient for one backward pass; compute the loss again")
        return gradient.mul_(factor).to(ctx.dtype), None, None, None


def _parts(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Cut [B, 3, S] into parts that fit the caches of the threads at work; a GPU takes all at once."""
    rows, _, columns = logits.shape
    if logits.device.type != "cpu":
        yield slice(None), slice(None)
        return
    length = PIXELS_PER_THREAD * torch.get_num_threads()
    for row in range(rows):
        for start in range(0, max(columns, 1), length):
            yield slice(row, row + 1), slice(start, start + length)


def _sweep(logits: Tensor, label: Tensor, weights: Tensor, focal: bool) -> tuple[Tensor, Tensor]:
    """Return the summed loss of a part, and its gradient by the logits."""
    log_probability = torch.log_softmax(logits.float(), dim=1)
    label = label.to(torch.int64)[:, None]
    of_label = log_probability.gather(1, label)
    weight = weights if weights.shape[1] == 1 else weights.expand_as(log_probability).gather(1, label)
    # The slope is the derivative of the loss by -log(probability of the label).
    loss, slope = _focal(of_label, weight) if focal else (-of_label * weight, weight)
    gradient = log_probability.exp_().mul_(slope).scatter_add_(1, label, -slope)
    return loss.sum(), gradient


def _focal(log_probability: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weigh a pixel by (1 - p)²; returns its loss and the slope of that by -log p."""
    doubt = -torch.expm1(log_probability)
    loss = -log_probability * weight * doubt**2
    return loss, weight * doubt * (doubt - 2 * (1 - doubt) * log_probability)
