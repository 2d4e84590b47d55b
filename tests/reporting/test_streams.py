import io
import os

import pytest

from cosmictagger.reporting.streams import QuietStream


class Full(io.StringIO):
    """A stream on a full disk, which keeps what is written until it is flushed."""

    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_stream_falls_silent_for_good():
    beneath = Full()
    stream = QuietStream(beneath)
    assert stream.write("one") == 3
    stream.flush()
    assert stream.write("two") == 3
    assert beneath.getvalue() == "one"


def test_no_stream_is_a_silent_one():
    stream = QuietStream(None)
    assert stream.write("words") == 5
    stream.flush()
    stream.close()
    assert (stream.isatty(), stream.encoding) == (False, "utf-8")
    with pytest.raises(OSError, match="no stream"):
        stream.fileno()


def test_what_a_broken_pipe_still_holds_goes_nowhere():
    read, write = os.pipe()
    beneath = os.fdopen(write, "w")
    stream = QuietStream(beneath)
    os.close(read)
    stream.write("words")
    stream.flush()
    beneath.close()  # would raise BrokenPipeError


def test_a_closed_stream_is_no_terminal():
    beneath = io.StringIO()
    beneath.close()
    assert not QuietStream(beneath).isatty()
