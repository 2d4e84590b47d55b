"""What a run needs of the other ranks: the interfaces that serial and parallel strategies keep."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from cosmictagger.data.batch import Records
from cosmictagger.data.loader import Loader, LoaderCounts
from cosmictagger.data.open import Dataset
from cosmictagger.data.sampler import Sampler

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

    def broadcast(self, values: npt.NDArray[Any]) -> None:
        """Overwrite a contiguous array by that of rank 0."""

    def broadcast_bytes(self, content: bytes | None) -> bytes:
        """Return the content that rank 0 gives; the others give None."""

    def gather(self, records: Records) -> Records | None:
        """Put arrays of one length and type one behind the other, in the order of the ranks; None but on rank 0."""


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
        """Return once the gradients of the module, and its buffers (running statistics), are averages over all ranks."""


class Feed(Protocol):
    """The batches of this rank: its share of what an I/O root reads."""

    @property
    def counts(self) -> LoaderCounts:
        """What this rank has read so far: nothing, where another one reads for it."""

    @property
    def buffer_bytes(self) -> int:
        """Memory of this rank's batch buffers, in bytes."""

    @property
    def scatter_seconds(self) -> float:
        """Time that this rank has waited for scattered batches so far."""

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        """Give (micro-step, records); records stay valid until the second next are asked for."""

    def close(self) -> None:
        """End reading."""


class DataStrategy(Protocol):
    """Which ranks open files, and how batches get from them to the others."""

    def share(self, images: int) -> int:
        """Return how many of the images of a step each rank gets; raise UserError where they differ."""

    def open(self, opener: Callable[[], Dataset]) -> Dataset:
        """Open the files where they are read; elsewhere the data set has a reader that knows its length alone."""

    def feed(self, dataset: Dataset, sampler: Sampler, steps: range, make_loader: Callable[[Sampler], Loader]) -> Feed:
        """Deliver this rank's share of the entries that `sampler` names for `steps`, padded to equal shares."""
