"""Output streams that never end a run: a reader that went away or a full disk costs the output, not the results."""

import contextlib
import os
from typing import TextIO


class QuietStream:
    """A text stream that falls silent for good on the first failed write; None is silent from the start.

    It has what rich and print ask of a stream: write, flush, isatty, fileno, encoding.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:
        """The encoding of the stream beneath, UTF-8 where it has none."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write `text`; characters that the encoding lacks become question marks."""
        if self._stream is not None:
            # Made to fit first: a UnicodeEncodeError is a ValueError, as is writing to a closed stream.
            fitting = text.encode(self.encoding, "replace").decode(self.encoding)
            try:
                self._stream.write(fitting)
            except (OSError, ValueError):
                self._fall_silent()
        return len(text)

    def flush(self) -> None:
        """Flush the stream beneath."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._fall_silent()

    def isatty(self) -> bool:
        """Whether a terminal is beneath."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:
            return False

    def fileno(self) -> int:
        """Return the file descriptor beneath; raises OSError where there is none."""
        if self._stream is None:
            raise OSError("no stream")
        return self._stream.fileno()

    def close(self) -> None:
        """Close the stream beneath."""
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.close()
            self._stream = None

    def _fall_silent(self) -> None:
        broken, self._stream = self._stream, None
        # What the broken stream still holds is flushed when the interpreter ends; that must not fail either.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = broken.fileno()  # type: ignore[union-attr]
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, descriptor)
            os.close(null)
