"""Buckets summed by Horovod (scripts/build_horovod.sh builds it)."""

from collections.abc import Iterator

from cosmictagger.distributed.buckets import Bucket
from cosmictagger.distributed.mpi import threads_may_call
from cosmictagger.errors import UserError


class HorovodTransport:
    """Horovod's asynchronous allreduce, carried out by its own thread."""

    def __init__(self) -> None:
        try:
            import horovod.torch as hvd
        except ImportError:
            raise UserError(
                "--distributed-mode: horovod is not installed; build it with scripts/build_horovod.sh, or take mpi or ddp."
            ) from None
        if not threads_may_call():
            raise UserError(
                "--distributed-mode: horovod calls MPI from a thread of its own, and this MPI does not allow it; take mpi."
            )
        hvd.init()
        self._hvd = hvd

    def add_up(self, bucket: Bucket) -> Iterator[None]:
        """Sum the bucket over the ranks."""
        # Ranks find each other's buckets by name; the first parameter in it names it alike everywhere.
        name = f"bucket of {bucket.numbers[0]}"
        handle = self._hvd.allreduce_async_(bucket.flat, name=name, op=self._hvd.Sum)
        while not self._hvd.poll(handle):
            yield
        self._hvd.synchronize(handle)

    def close(self) -> None:
        """End Horovod's thread, before MPI ends."""
        self._hvd.shutdown()
