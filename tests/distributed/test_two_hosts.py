"""Two emulated hosts with a slow link between them: nothing assumes one host."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from .jobs import MAIN, lines, results, words, write_events
from .launch import MPICH, PROJECT

pytestmark = pytest.mark.mpi

SCRIPT = PROJECT / "scripts" / "two_hosts.sh"
DELAY = 5  # ms each way
TIME_LIMIT = 120
TRAIN = ("-i", 3, "-mb", 4, "--warmup-steps", 1, "--image-iteration", 0)
PING = """
import time
import numpy as np
from mpi4py import MPI
comm, values = MPI.COMM_WORLD, np.zeros(1)
comm.Allreduce(MPI.IN_PLACE, values)
start = time.perf_counter()
for _ in range(10):
    comm.Allreduce(MPI.IN_PLACE, values)
if comm.rank == 0:
    print(MPI.Get_processor_name(), (time.perf_counter() - start) / 10 * 1000)
"""


def on_two_hosts(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run Python on two emulated hosts; skip the test where the machine forbids them."""
    command = [str(SCRIPT), "--delay", str(DELAY), sys.executable, *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=TIME_LIMIT, cwd=PROJECT, env=MPICH.environment(**environment)
    )
    refusal = re.search(r"two_hosts: (.*forbids namespaces|.* is missing|.*cannot be made).*", done.stderr)
    if refusal:
        pytest.skip(refusal[0])
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """Five events."""
    return write_events(tmp_path_factory.mktemp("events") / "events.h5", 5)


def test_the_link_is_slow():
    code, out, err = on_two_hosts("-c", PING)
    assert code == 0, err
    host, milliseconds = out.split()
    assert host == "emulated-a"
    assert float(milliseconds) >= DELAY


@pytest.mark.parametrize("mode", ["mpi", "ddp", "horovod"])
def test_a_training_on_two_hosts(events, tmp_path, mode):
    if mode == "horovod" and importlib.util.find_spec(mode) is None:
        pytest.skip("horovod is not installed (scripts/build_horovod.sh)")
    code, out, err = on_two_hosts(MAIN, *words("train", events, tmp_path, *TRAIN, "--distributed-mode", mode))
    assert code == 0, err
    assert "Ranks: 2 on 2 hosts" in out
    found = results(tmp_path)
    assert found["system"]["hosts"] == ["emulated-a", "emulated-b"]
    assert found["system"]["gradients"] == mode
    assert len(lines(tmp_path, "train")) == 3


def test_a_rank_that_fails_on_the_other_host(events, tmp_path):
    forever = ("-i", 100000, "-mb", 4, "--image-iteration", 0)
    code, _, err = on_two_hosts(MAIN, *words("train", events, tmp_path, *forever), RANK_FAILS="1 step")
    assert code != 0
    assert "[rank 1 on emulated-b] Traceback" in err
