"""I/O roots read whole batches, and each rank gets its equal part in one collective."""

import time
from collections.abc import Callable, Iterator

from cosmictagger.data.batch import Records, allocate, image_dtype
from cosmictagger.data.loader import IN_USE, Loader, LoaderCounts
from cosmictagger.data.open import Dataset
from cosmictagger.data.sampler import Sampler
from cosmictagger.distributed.communicator import Feed
from cosmictagger.distributed.datasets import open_on_roots
from cosmictagger.distributed.mpi import MpiCommunicator
from cosmictagger.distributed.serial import SerialFeed
from cosmictagger.distributed.shares import ShareSampler, equal_share, group_of
from cosmictagger.errors import UserError


class ScatterFeed:
    """This rank's part of the batches that the first rank of its `group` reads.

    While batches are in use, the next one travels into another buffer. A batch that is on its way when
    the feed is closed goes to `leave`, which sees to it that it arrives: MPI knows no other end of a collective.
    """

    def __init__(
        self,
        loader: Loader | None,
        group: MpiCommunicator,
        steps: range,
        parts: tuple[Records, ...],
        leave: Callable[[Callable[[], bool]], None],
    ) -> None:
        self._loader, self._group, self._steps, self._parts, self._leave = loader, group, steps, parts, leave
        self._arrived: Callable[[], bool] | None = None
        self.scatter_seconds = 0.0

    @property
    def counts(self) -> LoaderCounts:
        """What this rank has read so far."""
        return LoaderCounts() if self._loader is None else self._loader.counts

    @property
    def buffer_bytes(self) -> int:
        """Memory of this rank's buffers, in bytes."""
        return sum(part.nbytes for part in self._parts) + (0 if self._loader is None else self._loader.buffer_bytes)

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        batches = None if self._loader is None else iter(self._loader)
        if self._steps:
            self._start(batches, 0)
        for number, step in enumerate(self._steps):
            self._finish(step)
            if number + 1 < len(self._steps):
                self._start(batches, number + 1)
            yield step, self._parts[number % len(self._parts)]

    def close(self) -> None:
        """End reading."""
        if self._loader is not None:
            self._loader.close()
        if self._arrived is not None:
            self._leave(self._arrived)
            self._arrived = None

    def _start(self, batches: Iterator[tuple[int, Records]] | None, number: int) -> None:
        batch = None if batches is None else next(batches)[1]
        self._arrived = self._group.start_scatter(batch, self._parts[number % len(self._parts)])

    def _finish(self, step: int) -> None:
        assert self._arrived is not None
        start = time.perf_counter()
        self._group.patience.wait(self._arrived, f"its part of batch {step + 1} from the I/O root of its group")
        self.scatter_seconds += time.perf_counter() - start
        self._arrived = None


class ScatteredData:
    """`groups` groups of neighbouring ranks, each with a root that opens the files, reads and scatters."""

    def __init__(self, communicator: MpiCommunicator, groups: int) -> None:
        if groups > communicator.size:
            raise UserError(f"--io-groups: {groups} groups need at least as many ranks; there are {communicator.size}.")
        self._all = communicator
        number = group_of(communicator.rank, communicator.size, groups)
        members = [rank for rank in range(communicator.size) if group_of(rank, communicator.size, groups) == number]
        self._members = range(members[0], members[-1] + 1)
        self._group = communicator.split(number)
        self._on_their_way: list[Callable[[], bool]] = []

    def share(self, images: int) -> int:
        """Return how many of the images of a step each rank gets; raise UserError where they differ."""
        return equal_share(images, self._all.size)

    def open(self, opener: Callable[[], Dataset]) -> Dataset:
        """Open the files on the I/O roots, and tell the others what is in them."""
        return open_on_roots(self._all, opener if self._group.rank == 0 else None)

    def feed(self, dataset: Dataset, sampler: Sampler, steps: range, make_loader: Callable[[Sampler], Loader]) -> Feed:
        """Deliver this rank's share of the entries of each step."""
        is_root = self._group.rank == 0
        shares = ShareSampler(sampler, self._all.size, self._members, dataset.reader.sizes() if is_root else None)
        loader = make_loader(shares) if is_root else None
        if loader is not None and len(self._members) == 1:
            return SerialFeed(loader)
        dtype = image_dtype(dataset.layout.planes, dataset.layout.max_voxels)
        parts = tuple(allocate(shares.share, dtype) for _ in range(IN_USE + 1))
        return ScatterFeed(loader, self._group, steps, parts, self._on_their_way.append)

    def finish(self) -> None:
        """Let arrive what is still on its way; all ranks call this, at the end of a run that went well."""
        while self._on_their_way:
            self._group.patience.wait(self._on_their_way.pop(), "a batch that nobody needs any more")
