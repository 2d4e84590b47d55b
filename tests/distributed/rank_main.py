"""The program as a rank of a test's job: leaves its process id behind, and fails where the test wants it to.

RANK_PIDS names the folder for process ids. RANK_FAILS is ``<rank> <where>``, where one of: reader (in a reading
thread), step (in the third training step), bucket (as the third sum of gradients starts), thread (a thread of its own).
"""

import os
import sys
import threading
from pathlib import Path

from cosmictagger.cli import main


class PlannedError(RuntimeError):
    """The error that the test asked for."""


def fail_from_call(number: int, owner: type, method: str) -> None:
    """Let the given call of a method raise, and all later ones."""
    original, calls = getattr(owner, method), []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) >= number:
            raise PlannedError(f"planned failure in {method}")
        return original(*arguments, **options)

    setattr(owner, method, failing)


def fail_in_a_thread() -> None:
    """Let a thread that nobody waits for raise, as soon as the training is under way."""
    from cosmictagger.training.step import TrainStep

    def fail() -> None:
        raise PlannedError("planned failure in a thread")

    original, started = TrainStep.__call__, []

    def call(self, feed):
        if not started:
            started.append(threading.Thread(target=fail))
            started[0].start()
        return original(self, feed)

    TrainStep.__call__ = call


def plan(where: str) -> None:
    """Arrange for the failure."""
    if where == "reader":
        from cosmictagger.data.hdf5_reader import Hdf5Reader

        fail_from_call(9, Hdf5Reader, "read")
    elif where == "step":
        from cosmictagger.training.step import TrainStep

        fail_from_call(3, TrainStep, "__call__")
    elif where == "bucket":
        from cosmictagger.distributed.gradients import BucketedGradients

        fail_from_call(3, BucketedGradients, "_start_complete")
    elif where == "thread":
        fail_in_a_thread()


if __name__ == "__main__":
    rank = os.environ.get("PMI_RANK") or os.environ.get("OMPI_COMM_WORLD_RANK") or "0"
    if "RANK_PIDS" in os.environ:
        (Path(os.environ["RANK_PIDS"]) / rank).write_text(str(os.getpid()))
    failing, _, where = os.environ.get("RANK_FAILS", "").partition(" ")
    if failing == rank:
        plan(where)
    sys.exit(main(sys.argv[1:]))
