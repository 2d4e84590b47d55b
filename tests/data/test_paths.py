"""Paths and globs become files, or a message that says why not."""

import pytest

from cosmictagger.data.paths import expand
from cosmictagger.errors import UserError


@pytest.fixture
def folder(tmp_path):
    for name in ("train_2.h5", "train_1.h5", "test.h5", ".train_3.h5"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()
    return tmp_path


def test_globs_are_sorted_and_paths_keep_their_order(folder):
    found = expand([folder / "test.h5", f"{folder}/train_*.h5"])
    assert [path.name for path in found] == ["test.h5", "train_1.h5", "train_2.h5"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(folder):
    (folder / "a[1].h5").touch()
    assert expand([folder / "a[1].h5"]) == (folder / "a[1].h5",)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("trian_1.h5", r"There is no file '.*trian_1\.h5' \(did you mean 'train_1\.h5'\?\); check"),
        ("zzz", r"There is no file '.*zzz'; check the path\."),
        ("nowhere/a.h5", r"There is no file '.*', nor a directory '.*nowhere'\."),
        ("*.root", r"No file matches '.*\*\.root'"),
        ("deep*", "No file matches"),
        ("deeper", r"'.*deeper' is a directory; name its files, such as '.*deeper/\*\.h5'\."),
    ],
)
def test_what_is_not_a_file_is_refused(folder, pattern, message):
    with pytest.raises(UserError, match=message):
        expand([folder / pattern])


def test_no_path_at_all_is_refused():
    with pytest.raises(UserError, match="--file: no file is given"):
        expand([])
