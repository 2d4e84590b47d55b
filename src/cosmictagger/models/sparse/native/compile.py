"""Compile the kernels for the CPU of this machine, once, into the user's cache directory."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-ffp-contract=fast", "-shared", "-fPIC")
COMPILERS = ("g++", "c++", "clang++")
TIMEOUT = 300  # seconds


class CompileError(Exception):
    """The kernels cannot be compiled here; the message says why, in a line."""


def compiled(cache: Path | None = None) -> Path:
    """Return the shared library of the kernels, compiling it where `cache` [the user's] does not hold it yet.

    The file name depends on source, flags, compiler and CPU, so that a cache may be shared by machines; a library
    appears in it as a whole or not at all. Raises CompileError.
    """
    compiler = find_compiler()
    target = (cache or cache_directory()) / f"kernels-{_fingerprint(compiler)}.so"
    if not target.exists():
        _compile(compiler, target)
    return target


def find_compiler() -> str:
    """Return the C++ compiler: $CXX, or the first of the usual names. Raises CompileError where there is none."""
    for name in (os.environ.get("CXX", ""), *COMPILERS):
        if name and (path := shutil.which(name)):
            return path
    raise CompileError("there is no C++ compiler (g++) to compile its kernels")


def cache_directory() -> Path:
    """Return the user's cache directory for this program, after the XDG convention."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "cosmictagger"


def _fingerprint(compiler: str) -> str:
    # The predefined macros tell the compiler's version, and every instruction set that `native` stands for.
    macros = _run([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    digest = hashlib.sha256(SOURCE.read_bytes())
    for header in sorted(SOURCE.parent.glob("*.h")):
        digest.update(header.read_bytes())
    digest.update("\n".join((*FLAGS, macros)).encode())
    return digest.hexdigest()[:16]


def _compile(compiler: str, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as work:
            library = Path(work) / target.name
            _run([compiler, *FLAGS, str(SOURCE), "-o", str(library)])
            library.replace(target)
    except OSError as error:
        raise CompileError(f"'{target.parent}' cannot be written ({error.strerror})") from None


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
    except subprocess.CalledProcessError as error:
        complaint = next((line for line in error.stderr.splitlines() if "error" in line), "no message").strip()
        raise CompileError(f"{Path(command[0]).name} cannot compile its kernels ({complaint})") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CompileError(f"{Path(command[0]).name} does not run ({error})") from None
    return done.stdout
