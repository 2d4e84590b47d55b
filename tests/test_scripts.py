"""The shell scripts: sound by shellcheck, and the cache of built wheels does what it promises."""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).resolve().parents[1] / "scripts").glob("*.sh"))
BUILDERS = [script for script in SCRIPTS if script.name.startswith("build_")]

# Builds a package of one module in an instant; BROKEN=build or BROKEN=check in the environment make that step fail.
RECIPE = """
    set -euo pipefail
    package=tiny version=1.0 sha256=none
    source {library}
    make_wheel() {{
        [[ ${{BROKEN:-}} != build ]]
        mkdir -p dist tiny-1.0.dist-info
        echo 'answer = 42' >tiny.py
        printf 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n' >tiny-1.0.dist-info/METADATA
        printf 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n' \\
            >tiny-1.0.dist-info/WHEEL
        printf 'tiny.py,,\\ntiny-1.0.dist-info/METADATA,,\\ntiny-1.0.dist-info/WHEEL,,\\n' \\
            >tiny-1.0.dist-info/RECORD
        printf 'tiny-1.0.dist-info/RECORD,,\\n' >>tiny-1.0.dist-info/RECORD
        "$python" -m zipfile -c dist/tiny-1.0-py3-none-any.whl tiny.py tiny-1.0.dist-info
    }}
    build_wheel() {{ run_logged "building" make_wheel; }}
    check_wheel() {{ [[ ${{BROKEN:-}} != check ]] && "$python" -c 'import tiny'; }}
    install_cached "$@"
"""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_parses_the_script(script):
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shellcheck_finds_nothing(script):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([shellcheck, "-x", "-P", script.parents[1], script], capture_output=True, text=True)
    assert done.stdout == ""


@pytest.mark.parametrize("script", BUILDERS, ids=lambda script: script.name)
def test_a_python_that_does_not_exist_is_a_sentence(script, tmp_path):
    done = subprocess.run([script, tmp_path / "python"], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"there is no Python at {tmp_path / 'python'}" in done.stderr
    assert done.stderr.count("\n") == 1


class Sandbox:
    """A recipe, an environment to install into, and a cache and temporary directory of its own."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.cache, self.temporary, self.script = folder / "cache", folder / "tmp", folder / "build_tiny.sh"
        self.temporary.mkdir()
        self.script.write_text(textwrap.dedent(RECIPE.format(library=SCRIPTS[0].with_name("wheel_cache.sh"))))
        self.python = python

    def run(self, *extra: str, broken: str = "") -> subprocess.CompletedProcess:
        environment = os.environ | {"XDG_CACHE_HOME": str(self.cache), "TMPDIR": str(self.temporary), "BROKEN": broken}
        command = ["bash", self.script, self.python, *extra]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    def imports(self) -> bool:
        return subprocess.run([self.python, "-c", "import tiny"], capture_output=True).returncode == 0

    def wheels(self) -> list[Path]:
        return sorted(self.cache.rglob("*.whl"))


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("target")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def sandbox(tmp_path, python) -> Sandbox:
    subprocess.run([python, "-m", "pip", "uninstall", "--yes", "--quiet", "tiny"], capture_output=True, check=True)
    return Sandbox(tmp_path, python)


@pytest.mark.slow
def test_a_wheel_is_built_once_and_leaves_nothing_else(sandbox):
    first = sandbox.run("torch-9.9")
    assert first.returncode == 0, first.stderr
    assert "tiny 1.0: building" in first.stdout
    assert sandbox.imports()
    (wheel,) = sandbox.wheels()
    key = wheel.parent.name
    assert key.startswith(f"tiny-1.0-{sysconfig.get_config_var('SOABI')}-")
    assert f"-{platform.machine()}-torch-9.9-" in key

    again = sandbox.run("torch-9.9")
    assert again.returncode == 0, again.stderr
    assert "building" not in again.stdout
    assert sandbox.wheels() == [wheel]
    assert list(sandbox.temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("broken", "stage"), [("build", "building"), ("check", "checking that it works")])
def test_a_failure_keeps_the_log_but_neither_wheel_nor_package(sandbox, broken, stage):
    done = sandbox.run(broken=broken)
    assert done.returncode == 1
    (log,) = (sandbox.cache / "cosmictagger" / "logs").iterdir()
    assert f"'{stage}' failed" in done.stderr
    assert not sandbox.imports()
    assert str(log) in done.stderr
    assert sandbox.wheels() == []
    assert list(sandbox.temporary.iterdir()) == []
