"""Patience: waits as long as it takes, but not for ever."""

import pytest

from cosmictagger.distributed import waiting
from cosmictagger.distributed.failure import LastWords
from cosmictagger.distributed.waiting import Patience


class Clock:
    """Moves on by `step` seconds with every look at it."""

    def __init__(self, step: float) -> None:
        self.time, self.step = 0.0, step

    def __call__(self) -> float:
        self.time += self.step
        return self.time


class Answers:
    """Says False so many times, then True."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __call__(self) -> bool:
        self.times -= 1
        return self.times < 0


@pytest.fixture
def codes(monkeypatch) -> list[int]:
    """The exit codes that a job was ended with; naps are left out."""
    monkeypatch.setattr(waiting.time, "sleep", lambda seconds: None)
    return []


def patience(codes, timeout: float, step: float) -> Patience:
    return Patience(timeout, LastWords(3, "here", codes.append), now=Clock(step))


@pytest.mark.parametrize("times", [0, 1, 5])
def test_returns_when_it_is_done(codes, times):
    answers = Answers(times)
    patience(codes, timeout=100, step=1).wait(answers, "something")
    assert answers.times == -1
    assert codes == []


def test_says_who_waited_for_what_and_ends_the_job(codes, capsys):
    with pytest.raises(SystemExit):
        patience(codes, timeout=10, step=3).wait(Answers(100), "its part of batch 7")
    assert capsys.readouterr().err == (
        "[rank 3 on here] has waited 12 s for its part of batch 7; --stall-timeout ends the job.\n"
    )
    assert codes == [1]


def test_without_a_timeout_it_waits_on(codes):
    patience(codes, timeout=0, step=1e6).wait(Answers(1000), "something")
    assert codes == []
