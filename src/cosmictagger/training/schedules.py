"""The learning rate as a function of the step, without state: a resumed run has nothing to restore."""

import math

from torch.optim import Optimizer

from cosmictagger.config.sections import TrainingConfig

COSINE_WARMUP, COSINE_END = 0.10, 0.01  # fraction of the steps; fraction of the peak
ONE_CYCLE_WARMUP, ONE_CYCLE_START = 0.30, 1 / 25  # the published policy, with the defaults of PyTorch
ONE_CYCLE_END = ONE_CYCLE_START / 1e4


def learning_rate(step: int, total: int, config: TrainingConfig) -> float:
    """Return the learning rate of update number `step` (0 is the first) in a run of `total` updates.

    Its peak is ``config.learning_rate``; after the last planned update it stays as it was there.
    """
    shape = {"constant": _constant, "cosine": _cosine, "one-cycle": _one_cycle}[config.lr_schedule]
    return config.learning_rate * shape(min(step, total - 1), total, config.lr_warmup_steps)


def learning_rate_factor(images_per_step: int, config: TrainingConfig) -> float:
    """Return what a step of `images_per_step` images multiplies the learning rate by: --lr-scaling, made explicit.

    ``linear`` keeps the change of the parameters over an epoch, ``sqrt`` the spread of that change.
    """
    if config.lr_scaling == "none" or config.lr_base_images is None:
        return 1.0
    ratio = images_per_step / config.lr_base_images
    return ratio if config.lr_scaling == "linear" else math.sqrt(ratio)


def set_learning_rate(optimizer: Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def _constant(step: int, total: int, warmup: int | None) -> float:
    """Rise linearly over the warm-up [none], then stay at 1."""
    return _ramp(step, warmup or 0)


def _cosine(step: int, total: int, warmup: int | None) -> float:
    """Rise linearly over the warm-up [10 %], reach 1 with its last step, fall to 1 % at the last of all."""
    warmup = int(COSINE_WARMUP * total) if warmup is None else warmup
    if step < warmup:
        return _ramp(step, warmup)
    return _anneal(1.0, COSINE_END, step, max(warmup - 1, 0), total - 1)


def _one_cycle(step: int, total: int, warmup: int | None) -> float:
    """Rise from 1/25 to 1 over the warm-up [30 %], fall to 1/250,000 at the last step, both along a cosine.

    Equal to PyTorch's OneCycleLR, whose peak may lie between two steps.
    """
    peak = (ONE_CYCLE_WARMUP * total if warmup is None else warmup) - 1
    if step < peak:
        return _anneal(ONE_CYCLE_START, 1.0, step, 0, peak)
    return _anneal(1.0, ONE_CYCLE_END, step, peak, total - 1)


def _ramp(step: int, warmup: int) -> float:
    return min(1.0, (step + 1) / warmup) if warmup else 1.0


def _anneal(start: float, end: float, step: int, first: float, last: float) -> float:
    """Go from `start` at step `first` to `end` at step `last` along half a cosine."""
    if last <= first:
        return start
    return end + (start - end) * (1 + math.cos(math.pi * (step - first) / (last - first))) / 2
