"""The ranks of an MPI job.

Importing this module initialises MPI, with the thread level that mpi4py asks for by default (multiple); so
nothing but `connect` imports it, and only for a distributed run. This program calls MPI from the thread that
runs the steps; on a GPU also from autograd's, while that one waits for it. Horovod calls it from a thread of
its own. All collectives are started without blocking and waited for with `Patience`.
"""

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

from cosmictagger.data.batch import Records
from cosmictagger.distributed.communicator import Vector
from cosmictagger.distributed.waiting import Patience

HOST_BYTES = 256  # room for the name of a host
MOST_BYTES = 1 << 30  # in one message: MPI counts in 32-bit integers


class MpiCommunicator:
    """The collectives of `Communicator` over the ranks of `comm`; no array is pickled."""

    def __init__(self, comm: MPI.Intracomm, patience: Patience) -> None:
        self.comm, self.patience = comm, patience
        self._row_types: dict[int, MPI.Datatype] = {}
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self.library: str | None = " ".join(MPI.Get_library_version().splitlines()[0].split()).rstrip("\0")

    def split(self, color: int) -> "MpiCommunicator":
        """Make communicators of the ranks that give the same color; their ranks keep their order."""
        return MpiCommunicator(MPI.Intracomm(self.comm.Split(color, self.rank)), self.patience)

    def split_hosts(self) -> "MpiCommunicator":
        """Make communicators of the ranks that share a host's memory."""
        return MpiCommunicator(MPI.Intracomm(self.comm.Split_type(MPI.COMM_TYPE_SHARED, self.rank)), self.patience)

    def hosts(self) -> list[str]:
        """Name the host of every rank."""
        name = np.zeros(HOST_BYTES, np.uint8)
        encoded = platform.node().encode()[:HOST_BYTES]
        name[: len(encoded)] = np.frombuffer(encoded, np.uint8)
        names = np.empty((self.size, HOST_BYTES), np.uint8)
        self.patience.wait(self.comm.Iallgather(name, names).Test, "the names of all hosts")
        return [row.tobytes().rstrip(b"\0").decode() for row in names]

    def sum(self, values: Vector) -> Vector:
        """Add up float64 arrays of one shape over the ranks."""
        return self._reduce(values, MPI.SUM, "a sum")

    def maximum(self, values: Vector) -> Vector:
        """Take the elementwise maximum over the ranks."""
        return self._reduce(values, MPI.MAX, "a maximum")

    def minimum(self, values: Vector) -> Vector:
        """Take the elementwise minimum over the ranks."""
        return self._reduce(values, MPI.MIN, "a minimum")

    def any(self, flag: bool) -> bool:
        """Say whether the flag is set on any rank."""
        return bool(self.maximum(np.array([float(flag)]))[0])

    def broadcast(self, values: npt.NDArray[Any]) -> None:
        """Overwrite a contiguous array by that of rank 0."""
        content = values.reshape(-1).view(np.uint8)
        for start in range(0, len(content), MOST_BYTES):
            request = self.comm.Ibcast([content[start : start + MOST_BYTES], MPI.BYTE], root=0)
            self.patience.wait(request.Test, "a broadcast from rank 0")

    def broadcast_bytes(self, content: bytes | None) -> bytes:
        """Return the content that rank 0 gives; the others give None."""
        length = np.array([len(content or b"")], np.int64)
        self.broadcast(length)
        buffer = np.empty(int(length[0]), np.uint8)
        if self.rank == 0:
            buffer[:] = np.frombuffer(content or b"", np.uint8)
        self.broadcast(buffer)
        return buffer.tobytes()

    def gather(self, records: Records) -> Records | None:
        """Put arrays of one length and type one behind the other, in the order of the ranks; None but on rank 0."""
        row = self._row_type(records)
        everything = np.empty(len(records) * self.size, records.dtype) if self.rank == 0 else None
        receive = None if everything is None else [_bytes(everything), len(records), row]
        request = self.comm.Igather([_bytes(records), len(records), row], receive, root=0)
        self.patience.wait(request.Test, "the results of all ranks")
        return everything

    def start_scatter(self, batch: Records | None, part: Records) -> Callable[[], bool]:
        """Begin to send each rank its `part` of the `batch` of rank 0; returns what says whether it has arrived.

        Neither array may be touched before that.
        """
        row = self._row_type(part)
        send = None if batch is None else [_bytes(batch), len(part), row]
        return self.comm.Iscatter(send, [_bytes(part), len(part), row], root=0).Test

    def _row_type(self, records: Records) -> MPI.Datatype:
        """Return the MPI type of a record; with it, counts stay small however large the records."""
        size = records.dtype.itemsize
        if size not in self._row_types:
            self._row_types[size] = MPI.BYTE.Create_contiguous(size).Commit()
        return self._row_types[size]

    def _reduce(self, values: Vector, operation: MPI.Op, what: str) -> Vector:
        result = np.empty_like(values)
        request = self.comm.Iallreduce(np.ascontiguousarray(values), result, operation)
        self.patience.wait(request.Test, f"{what} over all ranks")
        return result


def _bytes(records: Records) -> npt.NDArray[np.uint8]:
    return records.view(np.uint8)


def threads_may_call() -> bool:
    """Say whether several threads may call MPI at once."""
    return bool(MPI.Query_thread() == MPI.THREAD_MULTIPLE)
