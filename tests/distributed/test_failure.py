"""The last words of a rank."""

import threading

import pytest

from cosmictagger.distributed.failure import LastWords
from cosmictagger.errors import UserError


@pytest.fixture
def codes() -> list[int]:
    return []


def failed(codes, capsys, error: BaseException, **options) -> str:
    with pytest.raises(SystemExit):
        LastWords(2, "node7", codes.append, **options).fail(error)
    return capsys.readouterr().err


def test_a_mistake_is_one_line_with_rank_and_host(codes, capsys):
    assert failed(codes, capsys, UserError("--file: no.")) == "[rank 2 on node7] error: --file: no.\n"
    assert codes == [2]


def test_a_mistake_comes_with_its_traceback_when_asked_for(codes, capsys):
    words = failed(codes, capsys, UserError("--file: no."), verbose=True)
    assert words.splitlines()[-1] == "[rank 2 on node7] cosmictagger.errors.UserError: --file: no."


def test_an_error_comes_with_its_traceback_each_line_marked(codes, capsys):
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        lines = failed(codes, capsys, error).splitlines()
    assert lines[0] == "[rank 2 on node7] Traceback (most recent call last):"
    assert lines[-2:] == ["[rank 2 on node7] ValueError: two", "[rank 2 on node7] lines"]
    assert codes == [1]


def test_an_interrupt_is_said_so(codes, capsys):
    assert failed(codes, capsys, KeyboardInterrupt()) == "[rank 2 on node7] interrupted\n"
    assert codes == [130]


def test_a_thread_that_dies_ends_the_job(codes, capsys, monkeypatch):
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    LastWords(0, "here", codes.append).watch_threads()

    def fail() -> None:
        raise ValueError("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    assert codes == [1]
    assert "[rank 0 on here] ValueError: in a thread" in capsys.readouterr().err
