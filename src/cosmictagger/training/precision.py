"""The number formats of a run, resolved once from configuration and device."""

import contextlib
import dataclasses
import time
from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from cosmictagger.config.sections import TrainingConfig

# Dynamic loss scaling as PyTorch's GradScaler does it.
FIRST_SCALE, GROWTH, BACKOFF, GROWTH_INTERVAL = 2.0**16, 2.0, 0.5, 2000
# Products that are timed: of two matrices of this size, so often.
PROBE_SIZE, PROBE_REPEATS = 384, 5


class LossScaler:
    """Multiplies the loss and divides the gradient, so that small gradients survive 16-bit floats.

    One step is: `backward` (once for every micro-step), the gradients averaged over ranks, `unscale`,
    optionally clipping, `step`. A dynamic scaler halves its scale and skips the step where a gradient is not
    finite, and doubles it after 2,000 good steps; averaged gradients make all ranks decide alike. With a scale
    of 1, not dynamic, it does nothing.
    """

    def __init__(self, scale: float = 1.0, *, dynamic: bool = False) -> None:
        self.scale = scale
        self.dynamic = dynamic
        self.skipped = 0  # steps left out so far because a gradient was not finite
        self._good_steps = 0
        self._finite = True

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of the scaled loss."""
        (loss if self.scale == 1.0 else loss * self.scale).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizer: Optimizer) -> None:
        """Divide the gradients by the scale; call it once before `step`."""
        if self.scale == 1.0 and not self.dynamic:
            return
        gradients = list(_gradients(optimizer))
        if gradients:
            torch._foreach_mul_(gradients, 1.0 / self.scale)
        if self.dynamic:
            self._finite = bool(torch.isfinite(get_total_norm(gradients, foreach=True)))

    def step(self, optimizer: Optimizer) -> bool:
        """Update the parameters, unless gradients are found not to be finite; return whether it was done."""
        if not self._finite:
            self.skipped += 1
            self.scale *= BACKOFF
            self._good_steps, self._finite = 0, True
            return False
        optimizer.step()
        if self.dynamic:
            self._good_steps += 1
            if self._good_steps == GROWTH_INTERVAL:
                self.scale *= GROWTH
                self._good_steps = 0
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold of the scaler."""
        return {"scale": self.scale, "skipped": self.skipped, "good_steps": self._good_steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`; only a dynamic scaler takes over the scale."""
        self.skipped, self._good_steps = state["skipped"], state["good_steps"]
        if self.dynamic:
            self.scale = state["scale"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
    """The number formats of a run.

    Loss, metrics and the parameters and statistics of normalizations are float32 whatever this says.
    """

    name: Literal["float32", "bfloat16", "mixed"]
    device_type: str  # cpu or cuda
    model_dtype: torch.dtype  # of the parameters; the input is converted to it on the device
    autocast_dtype: torch.dtype | None  # of the computing within `autocast`; None: that of the parameters
    input_dtype: torch.dtype  # of the images on their way to the device
    loss_scale: float | None  # None: dynamic

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Make the context for the forward pass; the backward pass and the loss go outside."""
        if self.autocast_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.autocast_dtype)

    def prepare(self, module: nn.Module) -> nn.Module:
        """Convert the parameters in place and return the module; call it before the optimizer is made."""
        module.to(dtype=self.model_dtype)
        for part in module.modules():
            # Statistics are sums over 10^6 pixels, and running means change by less than 16-bit floats resolve.
            if hasattr(part, "running_mean"):
                part.float()
        return module

    def scaler(self) -> LossScaler:
        """Make the loss scaler that these formats need."""
        return LossScaler(FIRST_SCALE, dynamic=True) if self.loss_scale is None else LossScaler(self.loss_scale)


def resolve_precision(config: TrainingConfig, device: torch.device, *, gpu_bfloat16: bool | None = None) -> Precision:
    """Choose the number formats for `config` on `device`.

    Mixed precision computes in bfloat16, and in float16 with dynamic loss scaling on GPUs without bfloat16
    (`gpu_bfloat16` says whether it has; None: ask PyTorch).
    """
    name = "bfloat16" if config.model_half_precision else config.precision
    autocast_dtype = _autocast_dtype(device, gpu_bfloat16) if name == "mixed" else None
    model_dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    scale = config.loss_scale
    if scale is None and autocast_dtype is not torch.float16:
        scale = 1.0
    return Precision(
        name=name,
        device_type=device.type,
        model_dtype=model_dtype,
        autocast_dtype=autocast_dtype,
        input_dtype=_half_input(config, autocast_dtype or model_dtype) if config.input_half_precision else model_dtype,
        loss_scale=scale,
    )


def bfloat16_time(precision: Precision) -> float | None:
    """Measure how long products in bfloat16 take on this CPU, as a multiple of those in float32.

    None on GPUs and where nothing is computed in bfloat16. It takes some milliseconds. Not every CPU that has
    instructions for bfloat16 gains by them: some without matrix units take twice as long as in float32.
    """
    if precision.device_type != "cpu" or torch.bfloat16 not in (precision.model_dtype, precision.autocast_dtype):
        return None
    times = {}
    for dtype in (torch.bfloat16, torch.float32):
        matrix = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype)
        times[dtype] = min(_seconds(matrix) for _ in range(PROBE_REPEATS))
    return times[torch.bfloat16] / times[torch.float32]


def _seconds(matrix: Tensor) -> float:
    start = time.perf_counter()
    torch.mm(matrix, matrix)
    return time.perf_counter() - start


def _autocast_dtype(device: torch.device, gpu_bfloat16: bool | None) -> torch.dtype:
    if device.type != "cuda":
        return torch.bfloat16
    if gpu_bfloat16 is None:
        gpu_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if gpu_bfloat16 else torch.float16


def _half_input(config: TrainingConfig, computing: torch.dtype) -> torch.dtype:
    """Choose the 16-bit format of the images: that of the computing, where that has 16 bits.

    Otherwise float16, 8 times as fine as bfloat16, where the logarithm keeps the values far below its largest.
    """
    if computing is not torch.float32:
        return computing
    return torch.float16 if config.input_transform == "log" else torch.bfloat16


def _gradients(optimizer: Optimizer) -> Iterable[Tensor]:
    return (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
