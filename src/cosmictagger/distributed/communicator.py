"""What a run needs of the other ranks, and the strategy for a run of one."""

import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cosmictagger.data.batch import Records
from cosmictagger.data.loader import Loader

Vector = npt.NDArray[np.float64]


class Communicator(Protocol):
    """The ranks of a run and the collectives that the program uses. Every rank calls them in the same order."""

    @property
    def rank(self) -> int:
        """This process, from 0 on."""

    @property
    def size(self) -> int:
        """Number of ranks."""

    @property
    def library(self) -> str | None:
        """Name and version of the MPI library; None without one."""

    def hosts(self) -> list[str]:
        """Name the host of every rank."""

    def sum(self, values: Vector) -> Vector:
        """Add up float64 arrays of one shape over the ranks."""

    def maximum(self, values: Vector) -> Vector:
        """Take the elementwise maximum over the ranks."""

    def minimum(self, values: Vector) -> Vector:
        """Take the elementwise minimum over the ranks."""

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set on any rank."""


class GradientStrategy(Protocol):
    """How the gradients of a step are averaged over the ranks."""

    @property
    def name(self) -> str:
        """Name for logs and results.json."""

    def prepare(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Make parameters, buffers and optimizer state those of rank 0; set up what backward needs."""

    def micro_step(self, last: bool) -> AbstractContextManager[Any]:
        """Wrap forward and backward of a micro-step; only the last one of a step communicates."""

    def finish(self) -> None:
        """Return once the gradients of the module are averages over all ranks."""


class Feed(Protocol):
    """The batches of this rank: its share of what an I/O root reads."""

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        """Give (micro-step, records); records stay valid until the next are asked for."""

    def close(self) -> None:
        """End reading."""


class SerialCommunicator:
    """A run of one rank."""

    rank = 0
    size = 1
    library: str | None = None

    def hosts(self) -> list[str]:
        """Name this host."""
        return [platform.node()]

    def sum(self, values: Vector) -> Vector:
        """Return the values."""
        return values

    maximum = sum
    minimum = sum

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return flag


class SerialGradients:
    """Nothing to average."""

    name = "serial"

    def prepare(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Leave everything as it is."""

    def micro_step(self, last: bool) -> AbstractContextManager[Any]:
        """Do nothing around a micro-step."""
        return nullcontext()

    def finish(self) -> None:
        """Return at once."""


class SerialFeed:
    """The whole of every batch that a loader fills."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        return iter(self._loader)

    def close(self) -> None:
        """End the reading threads."""
        self._loader.close()
