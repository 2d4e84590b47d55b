"""Background threads that keep a ring of fixed-size batches filled ahead of the step that uses them."""

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np

from cosmictagger.data.batch import PADDING, Records, allocate, clear, image_dtype, pack
from cosmictagger.data.events import Event, EventReader
from cosmictagger.data.sampler import Sampler

# Batches that stay valid: the one that is computed with, and the next one, which is being unpacked.
IN_USE = 2


@dataclasses.dataclass
class LoaderCounts:
    """What a loader has done so far; `first_empty` is the entry of the first empty plane, or None."""

    images: int = 0
    pixels: int = 0
    truncated_pixels: int = 0
    truncated_images: int = 0
    empty_planes: int = 0
    empty_images: int = 0
    first_empty: int | None = None
    wait_seconds: float = 0.0


class Loader:
    """Read the entries that a sampler names into reused buffers, `prefetch` batches ahead.

    Iterating gives (step, records), with records a structured array [images_per_step] of `image_dtype`. A
    batch stays valid while the one after it is taken, until the second next is asked for; then its buffer is
    filled again. Memory is taken once, at the start. `augment` changes what was read, given the step. An error
    in a thread is raised where the batch it spoilt would have been taken.
    """

    def __init__(
        self,
        reader: EventReader,
        sampler: Sampler,
        steps: range,
        *,
        planes: int,
        max_voxels: int,
        on_overflow: Literal["error", "truncate"] = "error",
        threads: int = 2,
        prefetch: int = 3,
        augment: Callable[[Event, int], Event] | None = None,
    ) -> None:
        self.counts = LoaderCounts()
        self._reader, self._sampler, self._steps = reader, sampler, steps
        self._on_overflow: Literal["error", "truncate"] = on_overflow
        self._augment = augment
        dtype = image_dtype(planes, max_voxels)
        # Those that are read ahead, and those in use.
        buffers = min(prefetch, max(len(steps), 1)) + IN_USE
        self._ring = [allocate(sampler.images_per_step, dtype) for _ in range(buffers)]
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._counting = threading.Lock()

    @property
    def buffer_bytes(self) -> int:
        """Memory of all buffers, in bytes."""
        return sum(records.nbytes for records in self._ring)

    def __iter__(self) -> Iterator[tuple[int, Records]]:
        pending: list[tuple[int, Records, list[Future[None]]]] = []
        free, in_use = list(self._ring), deque[Records]()
        upcoming = iter(self._steps)
        try:
            while True:
                while free and (step := next(upcoming, None)) is not None:
                    pending.append(self._submit(step, free.pop()))
                if not pending:
                    return
                step, records, parts = pending.pop(0)
                self._wait(parts)
                in_use.append(records)
                yield step, records
                if len(in_use) == IN_USE:
                    free.append(in_use.popleft())
        finally:
            self.close()

    def close(self) -> None:
        """End the threads; readings that have not begun are dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, step: int, records: Records) -> tuple[int, Records, list[Future[None]]]:
        entries = self._sampler.entries(step)
        return step, records, [self._pool.submit(self._fill, step, int(e), records[i]) for i, e in enumerate(entries)]

    def _wait(self, parts: "list[Future[None]]") -> None:
        start = time.perf_counter()
        for part in parts:
            part.result()
        self.counts.wait_seconds += time.perf_counter() - start

    def _fill(self, step: int, entry: int, record: np.void) -> None:
        if entry == PADDING:
            clear(record)
            return
        event = self._reader.read(entry)
        if self._augment is not None:
            event = self._augment(event, step)
        lost = pack(event, record, self._on_overflow, self._reader.describe(entry))
        sizes = [len(pixels.index) for pixels in event.planes]
        with self._counting:
            counts = self.counts
            counts.images += 1
            counts.pixels += sum(sizes)
            counts.truncated_pixels += lost
            counts.truncated_images += lost > 0
            counts.empty_images += not any(sizes)
            if 0 in sizes:
                counts.empty_planes += sizes.count(0)
                counts.first_empty = entry if counts.first_empty is None else min(entry, counts.first_empty)
