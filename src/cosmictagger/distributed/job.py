"""An MPI job as seen from one of its ranks: how it begins, and how it ends for all ranks together.

Importing this module initialises MPI.
"""

import contextlib
import platform
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from mpi4py import MPI

from cosmictagger.config.sections import Config
from cosmictagger.distributed.failure import LastWords
from cosmictagger.distributed.mpi import MpiCommunicator
from cosmictagger.distributed.placement import place
from cosmictagger.distributed.waiting import Patience
from cosmictagger.errors import Interrupted

TRACEBACKS = 2  # the verbosity from which a user's mistake comes with its traceback


class Job:
    """The ranks that a launcher started. A context that turns the failure of one rank into the end of all."""

    def __init__(self, config: Config) -> None:
        world = MPI.COMM_WORLD
        self._last_words = LastWords(
            world.Get_rank(), platform.node(), world.Abort, verbose=config.run.verbosity >= TRACEBACKS
        )
        self.patience = Patience(config.distribution.stall_timeout, self._last_words)
        self.communicator = MpiCommunicator(world.Dup(), self.patience)
        self._endings: list[Callable[[], None]] = []
        with self.guarding():
            host = self.communicator.split_hosts()
            self.placement = place(config.distribution.bind, host)
            self.hosts = tuple(self.communicator.hosts())

    def at_end(self, ending: Callable[[], None]) -> None:
        """Call `ending` on every rank at the end of a run that went well; the last one given comes first."""
        self._endings.append(ending)

    def finish(self) -> None:
        """End what was begun, on all ranks together."""
        while self._endings:
            self._endings.pop()()

    @contextlib.contextmanager
    def guarding(self) -> Iterator[None]:
        """End the job where the block raises, but for an end that all ranks have agreed on; one rank just raises."""
        try:
            yield
        except Interrupted:
            raise
        except BaseException as error:
            if self.communicator.size > 1:
                self._last_words.fail(error)
            raise

    def __enter__(self) -> Self:
        if self.communicator.size > 1:
            self._last_words.watch_threads()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.guarding():
            if error is not None and not isinstance(error, Interrupted):
                raise error
            self.finish()
