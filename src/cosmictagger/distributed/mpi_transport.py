"""Buckets summed by MPI: in place on the CPU, through pinned host memory or directly on a GPU, in 32 or 16 bits."""

import dataclasses
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from mpi4py import MPI
from torch import Tensor

from cosmictagger.distributed.buckets import Bucket

TYPES = {torch.float32: MPI.FLOAT, torch.float64: MPI.DOUBLE}


class MpiTransport:
    """Non-blocking allreduce. `direct` hands GPU memory to MPI, which must be CUDA-aware."""

    def __init__(self, comm: MPI.Intracomm, *, direct: bool = False) -> None:
        self._comm, self._direct = comm.Dup(), direct

    def add_up(self, bucket: Bucket) -> Iterator[None]:
        """Sum the bucket over the ranks."""
        if bucket.flat.device.type == "cpu" or self._direct:
            return self._in_place(bucket.flat)
        return self._staged(bucket)

    def _in_place(self, flat: Tensor) -> Iterator[None]:
        _synchronize(flat)
        request = self._comm.Iallreduce(MPI.IN_PLACE, [_memory(flat), flat.numel(), TYPES[flat.dtype]])
        while not request.Test():
            yield

    def _staged(self, bucket: Bucket) -> Iterator[None]:
        """Copy to the host, sum there, copy back; each rank's GPU goes on with its backward pass meanwhile."""
        if bucket.work is None:
            bucket.work = torch.empty_like(bucket.flat, device="cpu", pin_memory=True)
        host: Tensor = bucket.work
        host.copy_(bucket.flat, non_blocking=True)
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        copied.record()
        yield  # even if it is complete: the allreduce is started in its turn
        while not copied.query():  # type: ignore[no-untyped-call]
            yield
        request = self._comm.Iallreduce(MPI.IN_PLACE, [host.numpy(), TYPES[host.dtype]])
        while not request.Test():
            yield
        bucket.flat.copy_(host, non_blocking=True)


class Bfloat16Transport:
    """Gradients cross the wire in 16 bits and are summed in 32, in the order of the ranks.

    Every rank gets its piece of the bucket from all others (alltoall), sums it, and sends the sum to all
    (allgather): as many bytes as any allreduce, two roundings in all however many ranks there are, and the same
    bits on every run. Two communicators, so that the second message of a bucket and the first one of a later
    bucket may be started in either order.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self._first, self._second = comm.Dup(), comm.Dup()
        self._ranks = comm.Get_size()

    def add_up(self, bucket: Bucket) -> Iterator[None]:
        """Sum the bucket over the ranks."""
        if bucket.work is None:
            bucket.work = _Pieces.make(bucket.flat.numel(), self._ranks)
        pieces: _Pieces = bucket.work
        length = bucket.flat.numel()
        pieces.sent.view(-1)[:length] = bucket.flat.cpu()
        request = self._first.Ialltoall(_words(pieces.sent), _words(pieces.received))
        yield  # even if it is complete: the second message is sent in its turn, after those of the buckets before
        while not request.Test():
            yield
        pieces.total[:] = pieces.received.float().sum(dim=0)
        request = self._second.Iallgather(_words(pieces.total), _words(pieces.sent))
        while not request.Test():
            yield
        bucket.flat.copy_(pieces.sent.view(-1)[:length])


@dataclasses.dataclass(frozen=True)
class _Pieces:
    sent: Tensor  # bfloat16 [ranks, piece]: the bucket, cut into one piece a rank, padded with zeros
    received: Tensor  # the same piece of every rank
    total: Tensor  # [piece]

    @classmethod
    def make(cls, length: int, ranks: int) -> "_Pieces":
        piece = -(-length // ranks)
        sent, received = (torch.zeros(ranks, piece, dtype=torch.bfloat16) for _ in range(2))
        return cls(sent, received, torch.zeros(piece, dtype=torch.bfloat16))


def gpu_aware() -> bool:
    """Say whether the MPI library states that it takes CUDA memory."""
    kinds = MPI.COMM_WORLD.Get_info().get("mpi_memory_alloc_kinds") or ""
    return "cuda" in kinds


def make_transport(
    comm: MPI.Intracomm, compress: Literal["none", "bfloat16"], buffers: Literal["auto", "direct", "pinned"]
) -> MpiTransport | Bfloat16Transport:
    """Choose the transport for the options --compress-gradients and --gpu-buffers."""
    if compress == "bfloat16":
        return Bfloat16Transport(comm)
    return MpiTransport(comm, direct=buffers == "direct" or (buffers == "auto" and gpu_aware()))


def _words(tensor: Tensor) -> npt.NDArray[np.int16]:
    """View 16-bit floats as what numpy and MPI know."""
    words: npt.NDArray[np.int16] = tensor.view(torch.int16).numpy()
    return words


def _memory(flat: Tensor) -> Any:
    return flat.numpy() if flat.device.type == "cpu" else flat


def _synchronize(flat: Tensor) -> None:
    # MPI reads GPU memory on no stream of ours: what is to fill it must be done.
    if flat.device.type == "cuda":
        torch.cuda.current_stream(flat.device).synchronize()
