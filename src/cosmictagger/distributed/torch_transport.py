"""Buckets summed by PyTorch's own collectives: gloo on CPUs, NCCL on GPUs.

PyTorch's DistributedDataParallel is not used: its reducer does what `gradients.BucketedGradients` does, but it
wraps the network (other parameter names, an own forward) and wants to decide which micro-step communicates.
With one reducer for all transports they differ in the collective alone, and so are compared fairly.
"""

import os
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import torch.distributed as dist
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from cosmictagger.distributed.buckets import Bucket
from cosmictagger.distributed.communicator import Communicator

# Stalls are found, and the waiting ranks named, by `Patience`; PyTorch's own time limit must not come first.
NEVER = timedelta(days=7)


class TorchTransport:
    """Asynchronous all_reduce of torch.distributed; `compress` sends bfloat16, which is then also summed in 16 bits."""

    def __init__(self, communicator: Communicator, *, on_gpu: bool, compress: bool) -> None:
        self._compress = compress
        backend = "nccl" if on_gpu else "gloo"
        store = _store(communicator)
        dist.init_process_group(
            backend, store=store, rank=communicator.rank, world_size=communicator.size, timeout=NEVER
        )

    def add_up(self, bucket: Bucket) -> Iterator[None]:
        """Sum the bucket over the ranks."""
        flat = bucket.flat.bfloat16() if self._compress else bucket.flat
        work = dist.all_reduce(flat, async_op=True)
        assert work is not None
        while not work.is_completed():
            yield
        work.wait()
        if self._compress:
            bucket.flat.copy_(flat)

    def close(self) -> None:
        """End the process group."""
        dist.destroy_process_group()


def _store(communicator: Communicator) -> TCPStore:
    """Open the key-value store that PyTorch's ranks meet in, at a free port of rank 0's host."""
    hosts = communicator.hosts()
    host = os.environ.get("MASTER_ADDR") or ("127.0.0.1" if len(set(hosts)) == 1 else hosts[0])
    port, ranks = np.zeros(1, np.int64), communicator.size
    store = None
    if communicator.rank == 0:
        # Port 0: the system picks a free one, and no other process can take it in between.
        store = TCPStore(host, 0, ranks, is_master=True, wait_for_workers=False, timeout=NEVER)
        port[0] = store.port
    communicator.broadcast(port)
    return store or TCPStore(host, int(port[0]), ranks, is_master=False, timeout=NEVER)
