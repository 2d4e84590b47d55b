"""Choosing strategies: MPI is touched only when it is asked for."""

import subprocess
import sys

import pytest

from cosmictagger.config.sections import Config, DistributionConfig, RunConfig
from cosmictagger.distributed.connect import SIZE_VARIABLES, connect
from cosmictagger.distributed.serial import SerialCommunicator, SerialData, SerialGradients
from cosmictagger.errors import UserError


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for name in SIZE_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_one_process_has_serial_strategies():
    distribution = connect(Config())
    assert isinstance(distribution.communicator, SerialCommunicator)
    assert isinstance(distribution.gradients, SerialGradients)
    assert isinstance(distribution.data, SerialData)
    assert distribution.is_root
    assert distribution.notes == ()


@pytest.mark.parametrize("name", SIZE_VARIABLES)
def test_copies_of_a_run_are_refused(monkeypatch, name):
    monkeypatch.setenv(name, "4")
    with pytest.raises(UserError, match=rf"--distributed: 4 processes were started \({name}\)"):
        connect(Config())


def test_a_single_process_of_a_launcher_is_fine(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "1")
    assert connect(Config()).communicator.size == 1


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["train", "-d", "--no-such-flag"]])
def test_neither_help_nor_mistakes_initialise_mpi(project, words):
    code = f"""
import sys
sys.argv[1:] = {words!r}
from cosmictagger.cli import main
try:
    main()
except SystemExit:
    pass
assert "mpi4py" not in sys.modules, "mpi4py was imported"
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=project)


def test_importing_every_module_but_those_of_a_job_does_not_initialise_mpi(project):
    code = """
import sys
import cosmictagger.modes.train, cosmictagger.modes.iotest, cosmictagger.modes.inference
import cosmictagger.distributed.gradients, cosmictagger.distributed.connect
assert "mpi4py" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("name", "size", "message"),
    [("PMI_SIZE", "1", "serial"), ("SLURM_STEP_NUM_TASKS", "2", "MPI sees one: its library does not belong")],
)
def test_a_launcher_that_mpi_does_not_know_is_noticed(project, name, size, message):
    code = f"""
import os
os.environ[{name!r}] = {size!r}
from cosmictagger.config.sections import Config, RunConfig
from cosmictagger.distributed.connect import connect
from cosmictagger.errors import UserError
try:
    print(connect(Config(run=RunConfig(distributed=True))).gradients.name)
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project)
    assert message in done.stdout


def test_auto_takes_mpi_on_cpus_and_says_why():
    code = """
from cosmictagger.config.sections import Config, DistributionConfig
from cosmictagger.distributed.strategies import choose_mode
print(choose_mode(Config()))
print(choose_mode(Config(distribution=DistributionConfig(distributed_mode="ddp"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "('mpi', 'auto: on CPUs MPI sums in place, with nothing else to install')",
        "('ddp', 'as asked for')",
    ]


def test_options_have_bounds():
    with pytest.raises(UserError, match="--io-groups: 0 is too small"):
        DistributionConfig(io_groups=0)
    with pytest.raises(UserError, match="--stall-timeout: -1 is too small"):
        DistributionConfig(stall_timeout=-1)
    assert RunConfig().distributed is False
