"""What the command line settles before anything else is imported."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXEC = Path(__file__).resolve().parents[1] / "bin" / "exec.py"


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, "20000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "passive"}, "0")],
)
def test_idle_threads_of_openmp_sleep_soon_unless_the_user_says_otherwise(given, expected, tmp_path):
    """OpenMP itself says what it has read, when it is loaded with PyTorch."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    too_few_steps = "train --synthetic --synthetic-events 1 -i 1 -ld".split()
    done = subprocess.run(
        [sys.executable, str(EXEC), *too_few_steps, str(tmp_path / "log")],
        env=inherited | {"OMP_DISPLAY_ENV": "verbose"} | given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.findall(r"GOMP_SPINCOUNT = '(\d+)'", done.stderr) == [expected], done.stderr
