"""Which engine computes a sparse network: the one asked for, or the fastest that works here."""

from collections.abc import Callable
from typing import Literal

import torch

from cosmictagger.errors import UserError
from cosmictagger.models.sparse import cpu_engine, spconv_engine
from cosmictagger.models.sparse.engine import Engine
from cosmictagger.models.sparse.torch_engine import TorchEngine

EngineName = Literal["auto", "torch", "cpu", "spconv"]


def choose_engine(name: EngineName, device: torch.device, say: Callable[[str], None] | None = None) -> Engine:
    """Return the engine `name` for a device, or with "auto" the fastest: spconv on a GPU, cpu on a CPU, else torch.

    `say` is told in a line why "auto" did without the fastest. Raises UserError where an engine that was asked
    for by name does not work here.
    """
    if name == "torch":
        return TorchEngine()
    if name == "auto":
        engine = spconv_engine.load(device) if device.type == "cuda" else cpu_engine.load(device)
        if not isinstance(engine, str):
            return engine
        if say is not None:
            say(f"Sparse engine: torch, because {engine}.")
        return TorchEngine()
    engine = spconv_engine.load(device) if name == "spconv" else cpu_engine.load(device)
    if isinstance(engine, str):
        raise UserError(f"--sparse-engine {name}: {engine}; take --sparse-engine auto.")
    return engine
