import subprocess
from datetime import UTC, datetime, timedelta, timezone

import numpy as np

import cosmictagger
from cosmictagger.reporting.system import (
    gather_provenance,
    gather_system,
    git_state,
    peak_resident_bytes,
    timestamp,
    usable_cores,
)


def git(directory, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    return subprocess.run(
        ["git", "-C", directory, *identity, *arguments], check=True, capture_output=True, text=True
    ).stdout


def make_checkout(path):
    package = path / "src" / "cosmictagger"
    package.mkdir(parents=True)
    (package / "file.py").write_text("1")
    git(path, "init")
    git(path, "add", ".")
    git(path, "commit", "-m", "first")
    return package


def test_provenance_names_version_packages_and_command_line():
    start = datetime(2025, 1, 31, 12, tzinfo=UTC)
    provenance = gather_provenance(seed=5, start=start, argv=["exec.py", "train"])
    assert provenance.version == cosmictagger.__version__
    assert provenance.argv == ("exec.py", "train")
    assert provenance.packages["numpy"] == np.__version__
    assert provenance.start == "2025-01-31T12:00:00Z"
    assert provenance.end > provenance.start


def test_system_lists_each_host_once():
    system = gather_system(ranks=3, threads=2, device="cpu", hosts=["b", "a", "b"], mpi=None)
    assert system.hosts == ("b", "a")
    assert 1 <= system.cores == usable_cores()
    assert system.memory_bytes > 2**28
    assert system.cpu


def test_times_are_written_in_utc():
    assert timestamp(datetime(2025, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2024-12-31T23:00:00Z"


def test_peak_memory_is_in_bytes():
    ballast = np.ones(2**24, dtype=np.uint8)
    assert ballast.nbytes < peak_resident_bytes() < 2**40


def test_a_checkout_is_named_by_its_commit(tmp_path):
    package = make_checkout(tmp_path)
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert git_state(package) == (commit, False)
    (package / "file.py").write_text("2")
    assert git_state(package) == (commit, True)


def test_a_package_installed_inside_some_other_checkout_has_no_commit(tmp_path):
    make_checkout(tmp_path)
    installed = tmp_path / "venv" / "site-packages" / "cosmictagger"
    installed.mkdir(parents=True)
    assert git_state(installed) == (None, None)


def test_no_git_program_means_no_commit(tmp_path, monkeypatch):
    package = make_checkout(tmp_path)
    monkeypatch.setenv("PATH", "")
    assert git_state(package) == (None, None)
