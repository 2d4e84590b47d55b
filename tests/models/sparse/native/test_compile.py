"""Compiling at first use: once, whole or not at all, and with a reason where it does not work."""

import shutil
from pathlib import Path

import pytest

from cosmictagger.models.sparse.native import compile as compiling
from cosmictagger.models.sparse.native.compile import CompileError, compiled, find_compiler
from cosmictagger.models.sparse.native.library import Library


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """A source that compiles at once, and a count of the runs of the compiler."""
    try:
        find_compiler()
    except CompileError as error:
        pytest.skip(str(error))
    source = tmp_path / "kernels.cpp"
    source.write_text('extern "C" int ct_version() { return -1; }\n')
    monkeypatch.setattr(compiling, "SOURCE", source)
    runs = []
    run = compiling._run
    monkeypatch.setattr(compiling, "_run", lambda command: (runs.append(command), run(command))[1])
    return runs


def test_compiles_once(compiler, tmp_path):
    first = compiled(tmp_path / "cache")
    assert first.suffix == ".so"
    runs = len(compiler)
    assert compiled(tmp_path / "cache") == first
    assert len(compiler) == runs + 1  # it still asks for the compiler's macros
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [first.name]


def test_another_source_is_another_library(compiler, tmp_path):
    first = compiled(tmp_path)
    compiling.SOURCE.write_text("int other;\n")
    assert compiled(tmp_path) != first


def test_a_source_that_does_not_compile_leaves_nothing(compiler, tmp_path):
    compiling.SOURCE.write_text("this is no C++\n")
    with pytest.raises(CompileError, match="cannot compile its kernels"):
        compiled(tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_library_of_another_version_is_refused(compiler, tmp_path):
    with pytest.raises(CompileError, match="another version"):
        Library(compiled(tmp_path))


def test_no_compiler(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CompileError, match=r"no C\+\+ compiler"):
        find_compiler()


def test_the_cache_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert compiling.cache_directory() == tmp_path / "cosmictagger"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compiling.cache_directory() == Path.home() / ".cache" / "cosmictagger"


def test_a_cache_that_cannot_be_written(compiler, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CompileError, match="cannot be written"):
        compiled(tmp_path / "file")
