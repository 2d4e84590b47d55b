"""Where a run comes from and what it runs on: provenance and system facts, from the standard library alone."""

import dataclasses
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import cosmictagger

PACKAGES = (
    *("torch", "numpy", "h5py", "isal", "mpi4py", "mpich", "openmpi", "tensorboard", "matplotlib", "rich", "PyYAML"),
    *("pytorch-optimizer", "larcv", "horovod", "spconv"),
)
GIT_TIMEOUT = 10.0  # seconds; a checkout on a slow shared file system must not hold a job up


@dataclasses.dataclass(frozen=True, kw_only=True)
class Provenance:
    """What was run: enough to run it again. `start` and `end` are UTC times in ISO 8601."""

    version: str
    git_commit: str | None
    git_modified: bool | None
    argv: tuple[str, ...]
    packages: dict[str, str]
    seed: int
    start: str
    end: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class System:
    """What it ran on. `cores` are those that the root's process may use, `memory_bytes` the root's node's.

    `gradients` names what averages them over the ranks.
    """

    hosts: tuple[str, ...]
    ranks: int
    threads: int
    device: str
    cpu: str
    cores: int
    memory_bytes: int | None
    os: str
    python: str
    mpi: str | None
    gradients: str


def gather_provenance(*, seed: int, start: datetime, argv: Sequence[str] | None = None) -> Provenance:
    """Describe the running program; call it when the run ends. `argv` is sys.argv unless given."""
    commit, modified = git_state(Path(cosmictagger.__file__).resolve().parent)
    return Provenance(
        version=cosmictagger.__version__,
        git_commit=commit,
        git_modified=modified,
        argv=tuple(sys.argv if argv is None else argv),
        packages=package_versions(),
        seed=seed,
        start=timestamp(start),
        end=timestamp(utc_now()),
    )


def gather_system(
    *,
    threads: int,
    device: str,
    ranks: int = 1,
    hosts: Sequence[str] | None = None,
    mpi: str | None = None,
    gradients: str = "serial",
) -> System:
    """Describe the machine; `hosts` are the names of all ranks' nodes (repeats are dropped), `mpi` names the library."""
    return System(
        hosts=tuple(dict.fromkeys(hosts if hosts is not None else (platform.node(),))),
        ranks=ranks,
        threads=threads,
        device=device,
        cpu=cpu_model(),
        cores=usable_cores(),
        memory_bytes=memory_bytes(),
        os=platform.platform(),
        python=platform.python_version(),
        mpi=mpi,
        gradients=gradients,
    )


def peak_resident_bytes() -> int:
    """Return the most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts kibibytes, macOS bytes


def utc_now() -> datetime:
    """Return the time of day, with its time zone."""
    return datetime.now(UTC)


def timestamp(when: datetime) -> str:
    """Write a time as UTC in ISO 8601 with seconds, ``2025-01-31T12:00:00Z``."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def package_versions() -> dict[str, str]:
    """Return the versions of those of PACKAGES that are installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_state(package: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the checkout that `package` (<checkout>/src/<name>) runs from, and whether it is modified.

    (None, None) for an installed package, even one installed inside some other checkout, and without git.
    """
    checkout = package.parent.parent
    if package.parent.name != "src" or not (checkout / ".git").exists():
        return None, None
    commit = _git(checkout, "rev-parse", "HEAD")
    status = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return commit, None if status is None else bool(status)


def cpu_model() -> str:
    """Name the processor as well as the system lets us."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Count the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the physical memory of the node, or None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return None


def _git(checkout: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(checkout), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
