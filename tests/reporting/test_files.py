import json

import numpy as np
import pytest

from cosmictagger.reporting.files import plain, to_json, write_atomically


def test_nan_and_infinities_become_null():
    assert json.loads(to_json({"a": float("nan"), "b": [np.float32("inf"), -np.inf, 1.5]})) == {
        "a": None,
        "b": [None, None, 1.5],
    }


def test_noise_digits_are_cut():
    assert to_json([np.float32(0.1), 0.1 + 0.2]) == "[0.1, 0.3]"


def test_unix_times_keep_their_milliseconds():
    assert to_json(1738324800.123) == "1738324800.123"


def test_numpy_values_become_plain_ones():
    assert plain({"n": np.int64(3), "yes": np.bool_(True), "list": np.array([1, 2])}) == {
        "n": 3,
        "yes": True,
        "list": [1, 2],
    }


def test_integers_keep_all_digits():
    assert to_json(2**53 + 1) == "9007199254740993"


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(TypeError, match="set has no place"):
        plain({"a": {1}})


def test_writing_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    write_atomically(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
