"""Whole runs of the program under mpirun, on small events."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.modes.conftest import SMALL, write_events

from .launch import MPICH, PROJECT, Launcher, launchers, start

TIME_LIMIT = 120  # seconds for a whole job on a busy machine
MAIN = str(Path(__file__).with_name("rank_main.py"))
QUIET = ("--verbosity", "1", "--io-threads", "1", "--intra-op-parallelism-threads", "1", "--bind", "none")


def words(mode: str, file: Path, log: Path, *more: object) -> list[str]:
    """Make the command line of a run with a tiny network."""
    network = () if mode == "iotest" else SMALL
    return [mode, "-d", "-f", str(file), "-ld", str(log), *QUIET, *network, *map(str, more)]


def launch(ranks: int, *arguments: str, launcher: Launcher = MPICH, **environment: str) -> "subprocess.Popen[str]":
    """Start a run of the program on some ranks."""
    return start(launcher, ranks, MAIN, *arguments, **environment)


def launch_different(first: list[str], second: list[str], **environment: str) -> "subprocess.Popen[str]":
    """Start rank 0 with one command line and rank 1 with another."""
    one = MPICH.command(1, MAIN, *first)
    other = MPICH.command(1, MAIN, *second)[1:]
    return subprocess.Popen(
        [*one, ":", *other],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
        env=MPICH.environment(**environment), start_new_session=True,
    )  # fmt: skip


def end(process: "subprocess.Popen[str]", limit: float = TIME_LIMIT) -> tuple[int, str, str]:
    """Wait for a job: exit code, stdout, stderr. A job that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the job did not end within {limit} s\n{out}\n{err}") from None
    return process.returncode, out, err


def run(ranks: int, *arguments: str, launcher: Launcher = MPICH) -> str:
    """Run the program on some ranks, which must go well; returns its stdout."""
    code, out, err = end(launch(ranks, *arguments, launcher=launcher))
    assert code == 0, f"{out}\n{err}"
    return out


def results(log: Path) -> dict[str, Any]:
    """Read results.json."""
    return dict(json.loads((log / "results.json").read_text()))


def parameters(log: Path, step: int) -> dict[str, torch.Tensor]:
    """Read the parameters of a checkpoint."""
    path = log / "checkpoints" / f"checkpoint-{step:08d}.pt"
    return dict(torch.load(path, weights_only=True)["model"])


def openmpi() -> Launcher:
    """Return the launcher of Open MPI; skip the test where it is not installed."""
    launcher = launchers()[1]
    reason = launcher.missing()
    if reason:
        pytest.skip(reason)
    return launcher


def lines(log: Path, split: str) -> list[dict[str, Any]]:
    """Read metrics.jsonl."""
    every = [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["split"] == split]


__all__ = [
    "end",
    "launch",
    "launch_different",
    "lines",
    "openmpi",
    "parameters",
    "results",
    "run",
    "words",
    "write_events",
]
