"""The compiled kernels as Python functions on addresses; see kernels.cpp for what they do."""

import ctypes
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cosmictagger.models.sparse.native.compile import CompileError, compiled

VERSION = 7

POINTER, LONG, INT, DOUBLE = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_double
RULES = [LONG, INT, POINTER, POINTER, POINTER]
SITES = [POINTER, POINTER, LONG, INT, INT, INT]  # planes of images and pixels of sites; planes, height, width
PARTS = [POINTER, INT, INT, INT]  # starts of parts, their number, channels, threads
TYPED: dict[str, list[Any]] = {
    "convolve": [*RULES, POINTER, INT, POINTER, LONG, LONG, LONG, INT, *[POINTER] * 3, INT, INT],
    "correlate": [*RULES, POINTER, INT, POINTER, INT, POINTER, LONG, LONG, LONG, POINTER, INT],
    "activate": [*[POINTER] * 6, DOUBLE, DOUBLE, INT, POINTER, POINTER, POINTER, *PARTS],
    "rectify": [*[POINTER] * 6, *PARTS],
    "activate_slopes": [*[POINTER] * 5, INT, *[POINTER] * 6, *PARTS],
    "pool": [POINTER, POINTER, LONG, INT, POINTER, POINTER, INT],
    "pool_slopes": [POINTER, POINTER, POINTER, LONG, INT, POINTER, INT],
    "unpool": [POINTER, POINTER, LONG, INT, POINTER, POINTER, INT],
    "unpool_slopes": [POINTER, POINTER, LONG, INT, POINTER, INT],
    "take_tiles": [POINTER, LONG, LONG, INT, INT, INT, POINTER, INT],
    "tick_maximum": [POINTER, POINTER, LONG, INT, POINTER, INT],
    "tick_maximum_slopes": [POINTER, POINTER, POINTER, POINTER, LONG, INT, POINTER, INT],
    "add_to_ticks": [POINTER, POINTER, POINTER, LONG, INT, POINTER, INT],
    "add_to_ticks_slopes": [POINTER, POINTER, LONG, INT, POINTER, INT],
    "crossing_maximum": [POINTER, POINTER, POINTER, INT, INT, INT, INT, INT, POINTER, POINTER, INT],
    "crossing_maximum_slopes": [POINTER, POINTER, POINTER, POINTER, INT, INT, INT, INT, POINTER, INT],
}
UNTYPED: dict[str, tuple[list[Any], Any]] = {
    "tile": ([], INT),
    "table_rules": ([POINTER, LONG, INT, POINTER, POINTER, POINTER, INT], None),
    "neighbour_rules": ([*SITES, INT, POINTER, POINTER, POINTER, INT], None),
    "neighbours": ([*SITES, INT, POINTER, INT], None),
    "neighbour_sums": ([*SITES, INT, POINTER, POINTER, INT], None),
    "pool_sites": ([POINTER, POINTER, LONG, INT, POINTER, POINTER, POINTER, POINTER], LONG),
}

Function = Callable[..., Any]
NAMES = {torch.float32: "float32", torch.float64: "float64"}  # of the types of `Library.typed`


class Library:
    """The functions of the shared library `path`; all release Python's global lock while they run."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        if library.ct_version() != VERSION:
            raise CompileError(f"'{path}' is of another version")
        self.typed: dict[str, dict[str, Function]] = {
            dtype: {name: _bind(library, f"ct_{name}_{dtype}", types, None) for name, types in TYPED.items()}
            for dtype in ("float32", "float64")
        }
        self.functions: dict[str, Function] = {
            name: _bind(library, f"ct_{name}", types, result) for name, (types, result) in UNTYPED.items()
        }
        self.tile: int = self.functions["tile"]()


@functools.cache
def load() -> Library | str:
    """Return the kernels, compiled where they have not been yet, or why they do not work here."""
    try:
        return Library(compiled())
    except CompileError as error:
        return str(error)
    except OSError as error:
        return f"its compiled kernels do not load ({error})"


def _bind(library: ctypes.CDLL, name: str, types: list[Any], result: Any) -> Function:
    function: Function = getattr(library, name)
    function.argtypes, function.restype = types, result  # type: ignore[attr-defined]
    return function
