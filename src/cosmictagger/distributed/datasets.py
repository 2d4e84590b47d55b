"""Files are opened by the I/O roots alone; all ranks learn what there is to know about them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import Event, Product
from cosmictagger.data.open import Dataset, ImageLayout
from cosmictagger.distributed.communicator import Communicator, Vector
from cosmictagger.errors import UserError

NAMES = ("events", "labelled", "planes", "ticks", "wires", "downsample", "max_voxels")


@dataclasses.dataclass(frozen=True)
class ReadElsewhere:
    """Stands for the reader of another rank: knows how many events there are, and their shape."""

    length: int
    shape: tuple[int, int]
    bytes_read: int = 0
    unmatched_labels: int = 0

    def __len__(self) -> int:
        return self.length

    def sizes(self) -> npt.NDArray[np.int64]:
        """Refuse: the files are not open here."""
        raise self._error()

    def products(self) -> Sequence[Product]:
        """Refuse: the files are not open here."""
        raise self._error()

    def read(self, entry: int) -> Event:
        """Refuse: the files are not open here."""
        raise self._error()

    def particles(self, entry: int) -> npt.NDArray[np.void]:
        """Refuse: the files are not open here."""
        raise self._error()

    def describe(self, entry: int) -> str:
        """Name an entry in a message."""
        return f"entry {entry}"

    def close(self) -> None:
        """Nothing is open."""

    def _error(self) -> RuntimeError:
        return RuntimeError("only I/O roots read files")


def open_on_roots(communicator: Communicator, opener: Callable[[], Dataset] | None) -> Dataset:
    """Open a data set where there is an `opener`, and make one without content elsewhere.

    All ranks call this together. Raises UserError where roots find different files.
    """
    dataset = None if opener is None else opener()
    least = communicator.minimum(np.full(len(NAMES), np.inf) if dataset is None else _facts(dataset))
    most = communicator.maximum(np.full(len(NAMES), -np.inf) if dataset is None else _facts(dataset))
    for name, low, high in zip(NAMES, least, most, strict=True):
        if low != high:
            raise UserError(
                f"--file: the I/O roots do not read the same files: {name} {low:g} on one host and {high:g} on another; "
                "put the same files on all hosts, or take --io-groups 1."
            )
    return dataset if dataset is not None else _without_files(most)


def _facts(dataset: Dataset) -> Vector:
    layout = dataset.layout
    numbers = (layout.planes, *layout.shape, layout.downsample, layout.max_voxels)
    return np.array([len(dataset.reader), dataset.labelled, *numbers], np.float64)


def _without_files(facts: Vector) -> Dataset:
    events, labelled, planes, ticks, wires, downsample, max_voxels = (int(fact) for fact in facts)
    layout = ImageLayout(planes=planes, shape=(ticks, wires), downsample=downsample, max_voxels=max_voxels)
    return Dataset(reader=ReadElsewhere(events, layout.shape), layout=layout, labelled=bool(labelled))
