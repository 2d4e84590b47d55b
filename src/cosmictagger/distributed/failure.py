"""How a rank that cannot go on ends the whole job, and what it says before that."""

import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

from cosmictagger.errors import UserError

EXIT_FAILURE, EXIT_USER_ERROR, EXIT_INTERRUPTED = 1, 2, 130
# A launcher may kill the ranks faster than it passes on what they wrote last.
FLUSH_SECONDS = 0.2


class LastWords:
    """Says on stderr, naming rank and host, why a rank fails, and ends all ranks of the job.

    `abort` takes an exit code and does not return (MPI_Abort). `verbose` adds tracebacks to user errors.
    """

    def __init__(self, rank: int, host: str, abort: Callable[[int], None], *, verbose: bool = False) -> None:
        self._who, self._abort, self._verbose = f"[rank {rank} on {host}]", abort, verbose

    def say(self, text: str) -> None:
        """Write lines, each marked with rank and host: launchers mix the output of all ranks."""
        # One write: a line must not be torn apart by those of other ranks.
        sys.stderr.write("".join(f"{self._who} {line}\n" for line in text.splitlines()))
        sys.stderr.flush()

    def end_job(self, code: int = EXIT_FAILURE) -> NoReturn:
        """End all ranks at once; the launcher reports `code`."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(FLUSH_SECONDS)
        self._abort(code)
        raise SystemExit(code)

    def fail(self, error: BaseException) -> NoReturn:
        """Say what went wrong and end the job: a line for what a user can mend, else the traceback."""
        if isinstance(error, UserError) and not self._verbose:
            self.say(f"error: {error}")
        elif isinstance(error, KeyboardInterrupt):
            self.say("interrupted")
        else:
            self.say("".join(traceback.format_exception(error)).rstrip())
        self.end_job(_exit_code(error))

    def watch_threads(self) -> None:
        """End the job, too, where a thread of this process dies of an error that nobody takes notice of."""
        threading.excepthook = self._thread_failed

    def _thread_failed(self, arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
            self.fail(arguments.exc_value)


def _exit_code(error: BaseException) -> int:
    if isinstance(error, UserError):
        return EXIT_USER_ERROR
    return EXIT_INTERRUPTED if isinstance(error, KeyboardInterrupt) else EXIT_FAILURE
