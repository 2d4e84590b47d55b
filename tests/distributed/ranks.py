"""Tests that are written once and run on any number of ranks.

A function marked with `on_ranks` takes a `Job` and asserts what must hold on its rank. To pytest it is a test
for each number of ranks. All such functions of a file run in one MPI job for each number of ranks (starting one
takes seconds), in the order of the file; the first failure ends the job, and what follows counts as not run.
"""

import fcntl
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from .launch import PROJECT, Launcher, launchers

RANKS = (1, 2, 3, 4)
TIME_LIMIT = 240  # seconds for all functions of a file
PASSED = "passed"
Body = Callable[..., None]
BODIES: dict[str, dict[str, Body]] = {}


def on_ranks(body: Body) -> Callable[..., None]:
    """Make a test of a function of a `Job`."""
    BODIES.setdefault(body.__module__, {})[body.__name__] = body

    @pytest.mark.mpi
    @pytest.mark.parametrize("ranks", RANKS)
    @pytest.mark.parametrize("launcher", launchers(), ids=str)
    def test(launcher: Launcher, ranks: int, shared_folder: Path) -> None:
        reason = launcher.missing()
        if reason:
            pytest.skip(reason)
        outcomes = run_file(body.__module__, launcher, ranks, shared_folder)
        outcome = outcomes.get(body.__name__, "not run: " + next((o for o in outcomes.values() if o != PASSED), "?"))
        if outcome.startswith("skipped: "):
            pytest.skip(outcome)
        assert outcome == PASSED, outcome

    test.__name__ = body.__name__
    return test


def run_file(module: str, launcher: Launcher, ranks: int, folder: Path) -> dict[str, str]:
    """Run all functions of a file on some ranks, once a test session; returns their outcomes by name."""
    path = folder / f"{module}-{launcher}-{ranks}.json"
    with (folder / f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of pytest-xdist share the results
        if not path.exists():
            command = launcher.command(ranks, "-m", "tests.distributed.ranks", module, str(path))
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, timeout=TIME_LIMIT, cwd=PROJECT, env=launcher.environment()
                )
                words = done.stdout + done.stderr
            except subprocess.TimeoutExpired as late:
                words = f"time limit of {TIME_LIMIT} s; {late.stderr!r}"
            if not path.exists():
                path.write_text(json.dumps({"(the job)": words}))
        return dict(json.loads(path.read_text()))


def main(module: str, result: str) -> None:
    """Run the functions of a file on this rank; rank by rank, the first failure is written and ends the job."""
    from cosmictagger.config.sections import Config, DistributionConfig, RunConfig
    from cosmictagger.distributed.job import Job

    importlib.import_module(module)
    config = Config(run=RunConfig(distributed=True), distribution=DistributionConfig(stall_timeout=60, bind="none"))
    job = Job(config)
    outcomes = {}
    for name, body in BODIES[module].items():
        outcomes[name] = "not finished"
        try:
            body(job)
            outcomes[name] = PASSED
        except pytest.skip.Exception as skipped:
            outcomes[name] = f"skipped: {skipped}"
        finally:
            if outcomes[name] == "not finished":
                outcomes[name] = (
                    f"on rank {job.communicator.rank} of {job.communicator.size}:\n{traceback.format_exc()}"
                )
                Path(result).write_text(json.dumps(outcomes))
                job.communicator.comm.Abort(1)
    job.communicator.any(False)
    if job.communicator.rank == 0:
        Path(result).write_text(json.dumps(outcomes))


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    # Under its package name, so that the functions register where this looks for them.
    importlib.import_module("tests.distributed.ranks").main(*sys.argv[1:])
