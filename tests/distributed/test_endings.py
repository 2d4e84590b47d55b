"""However a rank fails, the whole job ends within seconds, says which rank it was, and exits with an error."""

import os
import signal
import time
from pathlib import Path

import pytest

from .jobs import end, launch, launch_different, lines, openmpi, parameters, results, words, write_events
from .launch import MPICH

pytestmark = pytest.mark.mpi

# From the failure to the end of mpirun: "within seconds", on a machine that is busy with other tests.
SECONDS = 30
START = 90  # seconds for the ranks to come to their first step
FOREVER = ("-i", 100000, "-mb", 4, "-ci", 100000, "-si", 100000, "--image-iteration", 0)


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """Six events."""
    return write_events(tmp_path_factory.mktemp("events") / "events.h5", 6)


def wait_for(condition, process, limit: float = START) -> None:
    """Look again and again until something is so; fails where the job ends first, or never."""
    deadline = time.monotonic() + limit
    while not condition():
        assert process.poll() is None, process.communicate()
        if time.monotonic() > deadline:
            process.kill()
            raise AssertionError(process.communicate())
        time.sleep(0.05)


def under_way(log: Path):
    """Say whether the training has logged a step."""
    return lambda: (log / "metrics.jsonl").exists() and (log / "metrics.jsonl").stat().st_size > 0


@pytest.fixture
def training(events, tmp_path):
    """A training on two ranks that would run for ever; with the process ids of its ranks."""
    pids = tmp_path / "pids"
    pids.mkdir()
    log = tmp_path / "log"

    def begin(*more: object):
        process = launch(2, *words("train", events, log, *FOREVER, *more), RANK_PIDS=str(pids))
        wait_for(under_way(log), process)
        return process, log, [int((pids / str(rank)).read_text()) for rank in (0, 1)]

    return begin


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] == "Z"


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("where", ["reader", "step", "bucket", "thread"])
def test_a_rank_that_raises_ends_the_job_with_its_traceback(events, tmp_path, where, rank):
    groups = 2 if where == "reader" else 1
    process = launch(
        2, *words("train", events, tmp_path, *FOREVER, "--io-groups", groups), RANK_FAILS=f"{rank} {where}"
    )
    code, _, err = end(process, START + SECONDS)
    assert code != 0
    mine = [line for line in err.splitlines() if line.startswith(f"[rank {rank} on {os.uname().nodename}]")]
    assert "Traceback" in mine[0]
    assert "PlannedError: planned failure" in mine[-1]


def test_a_rank_that_raises_ends_a_job_of_open_mpi(events, tmp_path):
    process = launch(2, *words("train", events, tmp_path, *FOREVER), launcher=openmpi(), RANK_FAILS="1 step")
    code, _, err = end(process, START + SECONDS)
    assert code != 0
    assert f"[rank 1 on {os.uname().nodename}] Traceback" in err
    assert "PlannedError: planned failure" in err


def test_a_file_missing_on_one_rank(events, tmp_path):
    missing = tmp_path / "none.h5"
    options = (*FOREVER, "--io-groups", 2)
    process = launch_different(
        words("train", events, tmp_path / "log", *options), words("train", missing, tmp_path / "log", *options)
    )
    code, _, err = end(process)
    assert code != 0
    assert "[rank 1 on " in err
    assert f"here is no file '{missing}'" in err
    assert "Traceback" not in err


def test_a_file_shorter_on_one_rank(events, tmp_path):
    shorter = write_events(tmp_path / "shorter.h5", 4)
    options = (*FOREVER, "--io-groups", 2)
    process = launch_different(
        words("train", events, tmp_path / "log", *options), words("train", shorter, tmp_path / "log", *options)
    )
    code, _, err = end(process)
    assert code != 0
    assert "the I/O roots do not read the same files: events 4 on one host and 6 on another" in err


def test_a_checkpoint_on_rank_0_alone_serves_all(events, tmp_path):
    here, nowhere = tmp_path / "here", tmp_path / "nowhere"
    options = ("-mb", 4, "--warmup-steps", 0)
    assert end(launch(2, *words("train", events, here, *options, "-i", 2)))[0] == 0
    assert end(launch(2, *words("train", events, tmp_path / "whole", *options, "-i", 4)))[0] == 0
    code, out, err = end(
        launch_different(
            words("train", events, here, *options, "-i", 4), words("train", events, nowhere, *options, "-i", 4)
        )
    )
    assert code == 0, err
    assert "after step 2 of 4" in out
    assert not nowhere.exists()
    whole, resumed = parameters(tmp_path / "whole", 4), parameters(here, 4)
    assert all(bool((value == resumed[name]).all()) for name, value in whole.items())


def test_a_checkpoint_on_another_rank_than_0_does_not_count(events, tmp_path):
    weights = ("--weights-location", tmp_path / "none")
    code, _, err = end(launch(2, *words("train", events, tmp_path / "log", *FOREVER, *weights)))
    assert code != 0
    assert "[rank 0 on " in err
    assert "--weights-location" in err


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_takes_the_others_with_it(training, rank):
    process, _, pids = training()
    os.kill(pids[rank], signal.SIGKILL)
    code, _, _ = end(process, SECONDS)
    assert code != 0
    wait_for_end(pids)


def wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + SECONDS
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_stalled_rank_is_waited_for_no_longer_than_asked(training, rank):
    process, _, pids = training("--stall-timeout", 3)
    os.kill(pids[rank], signal.SIGSTOP)
    code, _, err = end(process, SECONDS)
    assert code != 0
    waiting = 1 - rank
    assert f"[rank {waiting} on {os.uname().nodename}] has waited 3 s for " in err
    assert f"[rank {rank} on" not in err
    wait_for_end(pids)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_rank_ends_the_run_cleanly(training, rank):
    process, log, pids = training()
    os.kill(pids[rank], signal.SIGTERM)
    code, _, err = end(process, SECONDS)
    assert code != 0
    found = results(log)
    assert (found["status"], found["reason"]) == ("interrupted", "stopped by SIGTERM")
    last = lines(log, "train")[-1]["step"]
    assert found["checkpoint"]["step"] == last
    assert (log / "checkpoints" / f"checkpoint-{last:08d}.pt").exists()
    assert "Traceback" not in err


def test_ctrl_c_at_mpirun_ends_the_run_cleanly(training):
    process, log, _ = training()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to mpirun and all of its children
    end(process, SECONDS)
    found = results(log)
    assert (found["status"], found["reason"]) == ("interrupted", "stopped by SIGINT")
    assert found["checkpoint"]["step"] == lines(log, "train")[-1]["step"]


@pytest.mark.parametrize(
    ("words_given", "message"),
    [
        (("-mb", "3"), "--minibatch-size: 3 images cannot be shared equally by 2 ranks; take 2 or 4."),
        (("-mb", "4", "--io-groups", "3"), "--io-groups: 3 groups need at least as many ranks; there are 2."),
    ],
)
def test_a_mistake_is_a_line_and_not_a_traceback(events, tmp_path, words_given, message):
    code, _, err = end(launch(2, *words("train", events, tmp_path, "-i", 4, *words_given)))
    assert code == 2
    assert f"error: {message}" in err
    assert "Traceback" not in err


def test_several_processes_without_the_flag_are_refused(events, tmp_path):
    plain = [word for word in words("train", events, tmp_path / "log", "-i", 4) if word != "-d"]
    code, _, err = end(launch(2, *plain, launcher=MPICH))
    assert code != 0
    assert "--distributed: 2 processes were started (PMI_SIZE), and each would do the whole run; add -d" in err
    assert not (tmp_path / "log").exists()
