"""PyTorch's optimizers without its compiler.

Their methods import `torch._dynamo` so that a compiled training may call them. Nothing is compiled here, and what that
import takes, 70 MB and nearly two seconds, it takes on every rank.
"""

import inspect

import torch
from torch.optim import Optimizer


class _Eager(Optimizer):
    """Has the methods of an optimizer as they are beneath what concerns the compiler."""

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)


class Adam(_Eager, torch.optim.Adam):
    """`torch.optim.Adam`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    """`torch.optim.AdamW`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class RMSprop(_Eager, torch.optim.RMSprop):
    """`torch.optim.RMSprop`."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.RMSprop.step))
