"""Optimizers by name."""

import importlib
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.errors import UserError
from cosmictagger.models.uresnet import CLASSES
from cosmictagger.training.eager import Adam, AdamW, RMSprop
from cosmictagger.training.muon import Muon

ParameterGroups = list[dict[str, Any]]


def build_optimizer(module: nn.Module, config: TrainingConfig) -> Optimizer:
    """Make the optimizer that `config` names, for the trainable parameters of `module`.

    ``regularize_weights`` decays weights, and neither biases nor the parameters of normalizations. In adam and
    rmsprop it is L2 (coupled: added to the gradient); in adamw, lamb and muon decoupled; in lars it takes part in the
    trust ratio. Raises UserError where the package of lars and lamb is missing.
    """
    return _BUILDERS[config.optimizer](parameter_groups(module, config.regularize_weights), config.learning_rate)


def parameter_groups(module: nn.Module, decay: float) -> ParameterGroups:
    """Split the trainable parameters into those that decay and those that do not, each in the module's order.

    Biases and the parameters of normalizations are vectors, all other parameters have more axes.
    """
    trainable = [parameter for parameter in module.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _adam(groups: ParameterGroups, learning_rate: float) -> Optimizer:
    return Adam(groups, lr=learning_rate, fused=True)


def _adamw(groups: ParameterGroups, learning_rate: float) -> Optimizer:
    return AdamW(groups, lr=learning_rate, fused=True)


def _rmsprop(groups: ParameterGroups, learning_rate: float) -> Optimizer:
    return RMSprop(groups, lr=learning_rate)


def _muon(groups: ParameterGroups, learning_rate: float) -> Optimizer:
    split: ParameterGroups = [
        group | {"params": chosen, "orthogonal": orthogonal}
        for group in groups
        for orthogonal in (True, False)
        if (chosen := [p for p in group["params"] if _is_matrix(p) == orthogonal])
    ]
    return Muon(split, lr=learning_rate, fused=True)


def _is_matrix(parameter: nn.Parameter) -> bool:
    # The classifier, a row for each class, is left to adamw, as is usual.
    return parameter.ndim > 1 and min(len(parameter), parameter[0].numel()) > CLASSES


def _from_package(name: str) -> Callable[[ParameterGroups, float], Optimizer]:
    def build(groups: ParameterGroups, learning_rate: float) -> Optimizer:
        try:
            # Only here: the package takes the better part of a second to import.
            package = importlib.import_module("pytorch_optimizer")
        except ModuleNotFoundError:
            raise UserError(
                f"--optimizer: {name.lower()} needs the package pytorch-optimizer; run 'pip install pytorch-optimizer'."
            ) from None
        optimizer: Optimizer = getattr(package, name)(groups, lr=learning_rate)
        return optimizer

    return build


_BUILDERS: dict[str, Callable[[ParameterGroups, float], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "lars": _from_package("LARS"),
    "lamb": _from_package("Lamb"),
    "muon": _muon,
}
