"""Ctrl-C and SIGTERM as a request to finish the step, save and end."""

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

import numpy as np

from cosmictagger.distributed.communicator import Vector

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One Ctrl-C can arrive twice: from the terminal, and passed on by the launcher of an MPI job.
ECHO_SECONDS = 1.0


class StopRequest:
    """While open, notes the first SIGINT or SIGTERM; a second one, a second later or more, interrupts at once.

    `signal` is the one that all ranks have agreed to stop for, in `agree`.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._noted: signal.Signals | None = None
        self._since = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._previous = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agree(self, maximum: Callable[[Vector], Vector]) -> bool:
        """Say whether any rank was asked to stop; `maximum` takes the elementwise maximum over the ranks.

        A signal that comes while the ranks talk counts the next time: they must not answer differently.
        """
        number = int(maximum(np.array([float(self._noted or 0)]))[0])
        if number:
            self.signal = signal.Signals(number)
        return self.signal is not None

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._noted is None:
            self._noted, self._since = signal.Signals(number), time.monotonic()
        elif time.monotonic() - self._since > ECHO_SECONDS:
            raise KeyboardInterrupt
