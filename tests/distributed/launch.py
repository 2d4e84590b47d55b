"""The MPI libraries that tests start jobs with: MPICH from its wheel, and Open MPI from its own where it is installed."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cosmictagger"
OPENMPI = CACHE / "openmpi-5.0.11"  # where scripts/install_openmpi.sh puts it


@dataclasses.dataclass(frozen=True)
class Launcher:
    """An MPI library: its mpirun, and the library itself where it is not the one that mpi4py finds by itself."""

    name: str
    mpirun: Path
    library: Path | None = None

    def __str__(self) -> str:
        return self.name

    def missing(self) -> str | None:
        """Say why it cannot be used; None where it can."""
        return None if self.mpirun.exists() else f"{self.name} is not installed (scripts/install_{self.name}.sh)"

    def command(self, ranks: int, *arguments: str) -> list[str]:
        """Make the command that starts Python on some ranks."""
        extra = ["--oversubscribe", "--bind-to", "none"] if self.name == "openmpi" else []
        return [str(self.mpirun), *extra, "-n", str(ranks), sys.executable, *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        """Make the environment of a job: one thread a rank."""
        own = {"OMP_NUM_THREADS": "1", "PATH": f"{self.mpirun.parent}{os.pathsep}{os.environ['PATH']}"}
        if self.library is not None:
            own |= {"MPI4PY_LIBMPI": str(self.library)}
            own |= {
                "OMPI_ALLOW_RUN_AS_ROOT": "1",
                "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
                "PRTE_MCA_prte_silence_shared_fs": "1",
            }
        return os.environ | own | more


MPICH = Launcher("mpich", BIN / "mpirun")


def launchers() -> list[Launcher]:
    """List the MPI libraries that tests are to be run with."""
    return [MPICH, Launcher("openmpi", OPENMPI / "bin" / "mpirun", OPENMPI / "lib" / "libmpi.so.40")]


def tool(name: str) -> str | None:
    """Find a program beside Python or in PATH."""
    return shutil.which(name, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")


def start(launcher: Launcher, ranks: int, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """Start a job; its output comes through pipes."""
    return subprocess.Popen(
        launcher.command(ranks, *arguments),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=PROJECT,
        env=launcher.environment(**environment), start_new_session=True,
    )  # fmt: skip
