"""Every rank with the parameters, statistics and optimizer state of rank 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cosmictagger.distributed.communicator import Communicator


def broadcast_state(communicator: Communicator, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Overwrite parameters, buffers and the optimizer's tensors by those of rank 0.

    Raises RuntimeError where ranks do not have the same tensors or the same numbers beside them.
    """
    values = [module.state_dict(), optimizer.state_dict()]
    tensors = [leaf for leaf in _leaves(values) if isinstance(leaf, Tensor)]
    numbers = [float(leaf) for leaf in _leaves(values) if isinstance(leaf, int | float)]
    _check_alike(communicator, tensors, numbers)
    for tensor in tensors:
        # As bytes: numpy has no bfloat16, and one path serves every type.
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        communicator.broadcast(content.numpy())
        with torch.no_grad():
            tensor.copy_(content.view(tensor.dtype).view(tensor.shape))


def average_buffers(communicator: Communicator, buffers: Sequence[Tensor]) -> None:
    """Average floating-point tensors over the ranks, in float64."""
    if not buffers:
        return
    flat = torch.cat([buffer.detach().reshape(-1).to("cpu", torch.float64) for buffer in buffers])
    mean = torch.from_numpy(communicator.sum(flat.numpy()) / communicator.size)
    parts = torch.split(mean, [buffer.numel() for buffer in buffers])
    with torch.no_grad():
        for buffer, part in zip(buffers, parts, strict=True):
            buffer.copy_(part.view(buffer.shape))


def summing(communicator: Communicator) -> Callable[[Tensor], Tensor]:
    """Return what adds up a float64 vector on any device over the ranks."""

    def reduce(vector: Tensor) -> Tensor:
        return torch.from_numpy(communicator.sum(vector.cpu().numpy())).to(vector.device)

    return reduce


def _check_alike(communicator: Communicator, tensors: list[Tensor], numbers: list[float]) -> None:
    sizes = np.array([len(tensors), sum(tensor.nbytes for tensor in tensors), len(numbers)], np.float64)
    alike = bool((communicator.minimum(sizes) == communicator.maximum(sizes)).all())
    if alike and numbers:
        values = np.array(numbers)
        alike = bool((communicator.minimum(values) == communicator.maximum(values)).all())
    if not alike:
        raise RuntimeError("the ranks hold different networks or optimizers; they must be built alike")


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    else:
        yield value
