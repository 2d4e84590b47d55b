"""Gradients averaged over the ranks while the backward pass is still at work on the next ones."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from cosmictagger.distributed.buckets import Bucket, fill_buckets
from cosmictagger.distributed.communicator import Communicator
from cosmictagger.distributed.state import average_buffers, broadcast_state
from cosmictagger.distributed.waiting import Patience


class Transport(Protocol):
    """What carries a bucket to the other ranks."""

    def add_up(self, bucket: Bucket) -> Iterator[None]:
        """Sum `bucket.flat` over the ranks, in place.

        The sum begins with the first `next` and makes progress with each further one; the end of the iterator
        says that it is complete. Sums begin in one order on all ranks, and only the oldest is asked to go on: whatever
        a transport does after its first ``yield`` has that order, too.
        """


class BucketedGradients:
    """Sums gradients in buckets of `bucket_bytes`, each as soon as backward has made the last gradient in it.

    All ranks start the same buckets in the same order, whatever the order in which their gradients come. The
    first step finds out the order in which they come on rank 0, and buckets are filled in that order from then on.
    """

    def __init__(
        self,
        name: str,
        make_transport: Callable[[], Transport],
        communicator: Communicator,
        patience: Patience,
        *,
        bucket_bytes: float,
    ) -> None:
        self.name = name
        self._make_transport, self._communicator, self._patience = make_transport, communicator, patience
        self._transport: Transport | None = None
        self._bucket_bytes = bucket_bytes
        self._parameters: list[torch.nn.Parameter] = []
        self._running: list[Tensor] = []  # statistics
        self._home: list[Bucket] = []  # the bucket of each parameter
        self._buckets: list[Bucket] = []
        self._started = 0  # buckets of this step whose sum has begun
        self._on_their_way: deque[Iterator[None]] = deque()
        self._listening = False
        self._arrivals: list[int] | None = []  # the order in which gradients come, until it is known
        self._updates = 0

    def prepare(self, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Make parameters, buffers and optimizer state those of rank 0, and listen to the backward pass."""
        broadcast_state(self._communicator, module, optimizer)
        self._transport = self._make_transport()
        self._running = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
        # Backward makes the gradients of the last parts first: a good guess for the first step.
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad][::-1]
        self._fill(list(range(len(self._parameters))))
        for number, parameter in enumerate(self._parameters):
            parameter.register_post_accumulate_grad_hook(self._hook(number))  # type: ignore[no-untyped-call]

    @contextmanager
    def _last_micro_step(self) -> Iterator[None]:
        self._listening = True
        try:
            yield
        finally:
            self._listening = False

    @contextmanager
    def _other_micro_step(self) -> Iterator[None]:
        yield

    def micro_step(self, last: bool) -> AbstractContextManager[Any]:
        """Wrap forward and backward of a micro-step; only the last one of a step communicates."""
        return self._last_micro_step() if last else self._other_micro_step()

    def finish(self) -> None:
        """Return once the gradients of the module, and its buffers, are averages over all ranks."""
        for number, parameter in enumerate(self._parameters):
            # A parameter that took no part in this rank's last micro-step may have taken part in another rank's.
            if self._home[number].lacks(number):
                self._home[number].put(number, parameter)
        self._start_complete()
        # Running statistics are averaged with every update: so all ranks are alike at any step that is saved.
        average_buffers(self._communicator, self._running)
        while self._on_their_way:
            number = self._started - len(self._on_their_way) + 1
            what = f"bucket {number} of {len(self._buckets)} of the gradients of update {self._updates + 1}"
            self._patience.wait(self._oldest_done, what)
        for bucket in self._buckets:
            bucket.deliver(self._parameters)
        self._started = 0
        self._updates += 1
        if self._arrivals:
            self._follow(self._arrivals)

    def _hook(self, number: int) -> Any:
        def hook(parameter: Tensor) -> None:
            if not self._listening:
                return
            if self._arrivals is not None:
                self._arrivals.append(number)
            self._home[number].put(number, parameter)
            self._start_complete()
            self._oldest_done()

        return hook

    def _start_complete(self) -> None:
        assert self._transport is not None
        while self._started < len(self._buckets) and self._buckets[self._started].complete:
            transfer = self._transport.add_up(self._buckets[self._started])
            self._started += 1
            self._on_their_way.append(transfer)
            next(transfer, None)

    def _oldest_done(self) -> bool:
        """Give the oldest sum a chance to make progress; say whether it is complete (then it is dropped)."""
        if self._on_their_way and next(self._on_their_way[0], "done") is None:
            return False
        if self._on_their_way:
            self._on_their_way.popleft()
        return True

    def _follow(self, arrivals: list[int]) -> None:
        """Fill the buckets anew, in the order in which rank 0's gradients have come."""
        order = np.array(arrivals + [n for n in range(len(self._parameters)) if n not in set(arrivals)], np.int64)
        self._communicator.broadcast(order)
        self._arrivals = None
        self._fill(order.tolist())

    def _fill(self, order: list[int]) -> None:
        scale = 1.0 / self._communicator.size
        self._buckets = fill_buckets(self._parameters, order, self._bucket_bytes, scale)
        home = {number: bucket for bucket in self._buckets for number in bucket.numbers}
        self._home = [home[number] for number in range(len(self._parameters))]
