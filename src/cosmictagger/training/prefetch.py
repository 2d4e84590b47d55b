"""Unpack batches: the next one in a thread while the one before it is used, where a core is free for that."""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from cosmictagger.data.batch import Records
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.batches import Batch, Unpack

Batches = Generator[tuple[Records, Batch]]
Unpacking = Callable[[Iterator[tuple[int, Records]], Unpack, Clocks], Batches]


def unpacked(feed: Iterator[tuple[int, Records]], unpack: Unpack, clocks: Clocks) -> Batches:
    """Give (records, batch) for all records of `feed`, each unpacked when asked for.

    Records stay valid until the next ones are asked for.
    """
    while (records := _next(feed, clocks)) is not None:
        with clocks.measure("unpack"):
            batch = unpack(records)
        yield records, batch


def prefetched(feed: Iterator[tuple[int, Records]], unpack: Unpack, clocks: Clocks) -> Batches:
    """Give what `unpacked` gives, each unpacked in a thread while the batch before it is in use.

    So the neighbour tables of a sparse network are made beside its computing. The clock `unpack` is what is left
    to wait for. Close it to end the thread.
    """

    def take() -> tuple[Records, Future[Batch]] | None:
        records = _next(feed, clocks)
        return None if records is None else (records, pool.submit(unpack, records))

    with ThreadPoolExecutor(1, thread_name_prefix="unpack") as pool:
        coming = take()
        while coming is not None:
            records, future = coming
            with clocks.measure("unpack"):
                batch = future.result()
            coming = take()
            yield records, batch


def best_unpacking(spare_core: bool) -> Unpacking:
    """Choose; where all cores compute, a thread more makes them wait for each other, and costs more than it hides."""
    return prefetched if spare_core else unpacked


def _next(feed: Iterator[tuple[int, Records]], clocks: Clocks) -> Records | None:
    with clocks.measure("io_wait"):
        return next(feed, (None, None))[1]
