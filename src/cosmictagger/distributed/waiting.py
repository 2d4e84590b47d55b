"""Waiting for other ranks with an end to patience: no collective of this program can hang for ever."""

import os
import time
from collections.abc import Callable

from cosmictagger.distributed.failure import LastWords

# Short waits are spent asking, as MPI itself would. Longer ones give the core away: the rank that is waited for
# may need it, and a late answer by this much is nothing after a wait of that length.
EAGER_SECONDS, NAP_SECONDS = 0.002, 0.00005
# All ranks that wait run out of patience at nearly the same time: each has this long to say so before the first
# of them ends the job.
GRACE_SECONDS = 2.0


class Patience:
    """Waits until something is done; after `timeout` seconds (0: never) says who waited for what, and ends the job.

    Python handles its signals between two questions, which it cannot within a blocking MPI call.
    """

    def __init__(self, timeout: float, last_words: LastWords, now: Callable[[], float] = time.monotonic) -> None:
        self._timeout, self._last_words, self._now = timeout, last_words, now

    def wait(self, done: Callable[[], bool], what: str) -> None:
        """Return once `done` returns True; `what` names the wait in the message of a stalled job."""
        if done():
            return
        start = self._now()
        while not done():
            waited = self._now() - start
            if self._timeout and waited > self._timeout:
                self._give_up(what, waited)
            if waited < EAGER_SECONDS:
                os.sched_yield()
            else:
                time.sleep(NAP_SECONDS)

    def _give_up(self, what: str, waited: float) -> None:
        self._last_words.say(f"has waited {waited:.0f} s for {what}; --stall-timeout ends the job.")
        time.sleep(GRACE_SECONDS)
        self._last_words.end_job()
