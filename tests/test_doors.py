"""The one-way doors between the rooms: who may import what."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cosmictagger"

# Library -> the rooms (or modules) that may import it.
LIBRARY_DOORS = {
    "h5py": {"data"},
    "larcv": {"data/larcv_reader.py"},
    "isal": {"data"},
    "mpi4py": {"distributed"},
    "horovod": {"distributed"},
    "torch.distributed": {"distributed"},
    "spconv": {"models/sparse/spconv_engine.py"},
    "matplotlib": {"reporting"},
    "tensorboard": {"reporting"},
    "torch.utils.tensorboard": {"reporting"},
    "rich": {"reporting"},
    "yaml": {"config", "simulate", "reporting"},
    "pytorch_optimizer": {"training"},
    "argparse": {"config"},
}
# Room -> the rooms of this package that it may import, besides itself and errors.
ROOM_DOORS = {
    "config": set(),
    "data": {"config"},
    "simulate": {"config", "data"},
    "models": {"config"},
    "distributed": {"config", "data"},
    "metrics": set(),
    "training": {"config", "data", "models", "distributed", "metrics", "reporting"},
    "reporting": {"config", "data", "metrics", "simulate"},
    "modes": {"config", "data", "simulate", "models", "distributed", "metrics", "training", "reporting"},
}
TORCH_FREE = {"config", "data", "simulate"}


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            yield f"{node.module}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_door_is_opened(path):
    room, place = room_of(path), path.relative_to(SOURCE).as_posix()
    for name in imports(path):
        for library, allowed in LIBRARY_DOORS.items():
            if name == library or name.startswith(library + "."):
                assert room in allowed or place in allowed, f"{place} imports {name}"
        if name.startswith("cosmictagger.") and room:
            target = name.split(".")[1]
            if target in ROOM_DOORS and target != room:
                assert target in ROOM_DOORS[room], f"{place} imports {name}"
        if room in TORCH_FREE:
            assert name.split(".")[0] != "torch", f"{place} imports torch"


def test_every_room_is_listed():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert rooms == set(ROOM_DOORS)


def test_bin_exec_is_short(project):
    assert len((project / "bin" / "exec.py").read_text().splitlines()) <= 40


def test_a_rank_that_draws_nothing_loads_nothing_to_draw_with():
    """Thousands of ranks that import at once from one file system: what only rank 0 needs is imported when it needs it."""
    modes = ", ".join(f"cosmictagger.modes.{name}" for name in ("train", "inference", "iotest"))
    drawing = ("matplotlib", "tensorboard", "PIL")
    command = f"import sys, {modes}; print([name for name in {drawing} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout == "[]\n"
