"""Every command of the README works, in the order in which a newcomer would type them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# `make train` is the same job at a size that a test can wait for; the variables are documented in the Makefile.
SMALLER = {"make train": "make train EVENTS=8 STEPS=4"}


def commands(project: Path) -> list[str]:
    blocks = re.findall(r"^```bash\n(.*?)^```", (project / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def program_commands() -> list[str]:
    return [line for line in commands(Path(__file__).resolve().parents[1]) if "bin/exec.py" in line]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, project):
    """A directory that looks like the project's, where the commands may leave what they like."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "bin").symlink_to(project / "bin")
    return directory


def test_readme_is_short(project):
    assert len((project / "README.md").read_text().splitlines()) < 200


def test_the_first_two_commands_are_make_train_and_make_test(project):
    assert commands(project)[:2] == ["make train", "make test"]


def test_ci_runs_the_test_command(project):
    assert "\nmake test\n" in (project / ".ci" / "run").read_text()


@pytest.mark.slow
def test_commands(workplace):
    """All of them in one test, as one leaves behind what the next one reads."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    for command in program_commands():
        done = subprocess.run(
            command, shell=True, cwd=workplace, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"


@pytest.mark.slow
def test_make_train(project, tmp_path):
    """The main job, small; the environment is the one that runs this test."""
    if not (project / ".venv").exists():
        pytest.skip("not run by make: there is no .venv")
    command = f"{SMALLER['make train']} RUN={tmp_path / 'run'}"
    done = subprocess.run(command, shell=True, cwd=project, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-2000:]
    for stage in ("six-neutrinos", "one-neutrino"):
        report = tmp_path / "run" / stage / "report.html"
        assert report.exists()
        assert f"Training:   {report}" in done.stdout
    assert len(list((tmp_path / "run" / "validation" / "displays").glob("*.png"))) == 4
    shutil.rmtree(tmp_path / "run")


def test_no_command_is_left_out(project):
    assert set(commands(project)) == {"make train", "make test", *program_commands()}


def test_links_lead_somewhere(project):
    for link in re.findall(r"\]\(([^)#]+)\)", (project / "README.md").read_text()):
        assert (project / link).exists(), link
