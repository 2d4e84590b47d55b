"""The strategies of a run of one rank."""

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy.typing as npt
import torch

from cosmictagger.data.batch import Records
from cosmictagger.data.loader import Loader, LoaderCounts
from cosmictagger.data.open import Dataset
from cosmictagger.data.sampler import Sampler
from cosmictagger.distributed.communicator import Feed, Vector


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

    def broadcast(self, values: npt.NDArray[Any]) -> None:
        """Leave the values as they are."""

    def broadcast_bytes(self, content: bytes | None) -> bytes:
        """Return the content."""
        if content is None:
            raise ValueError("rank 0 must give the content of a broadcast")
        return content

    def gather(self, records: Records) -> Records | None:
        """Return the records."""
        return records


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

    scatter_seconds = 0.0

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    @property
    def counts(self) -> LoaderCounts:
        """What has been read so far."""
        return self._loader.counts

    @property
    def buffer_bytes(self) -> int:
        """Memory of the loader's buffers, in bytes."""
        return self._loader.buffer_bytes

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        return iter(self._loader)

    def close(self) -> None:
        """End the reading threads."""
        self._loader.close()


class SerialData:
    """The one rank opens the files and gets every image."""

    def share(self, images: int) -> int:
        """Return all images."""
        return images

    def open(self, opener: Callable[[], Dataset]) -> Dataset:
        """Open the files."""
        return opener()

    def feed(self, dataset: Dataset, sampler: Sampler, steps: range, make_loader: Callable[[Sampler], Loader]) -> Feed:
        """Deliver whole batches."""
        return SerialFeed(make_loader(sampler))
