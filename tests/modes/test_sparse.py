"""Sparse networks through the program: they learn, resume, repeat, and tag what dense ones tag."""

import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from cosmictagger.cli import EXIT_USER_ERROR
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.modes.session import EXIT_OK

from .conftest import metrics_lines, results

SPARSE = ("--sparse", "-mb", "2", "-lr", "0.01")


def last_checkpoint(log):
    return torch.load(sorted((log / "checkpoints").glob("*.pt"))[-1], weights_only=False)["model"]


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_sparse_network_learns(run, tmp_path, engine):
    assert run("train", *SPARSE, "-i", 30, "--sparse-engine", engine) == EXIT_OK
    lines = metrics_lines(tmp_path / "log")
    assert np.mean([line["loss"] for line in lines[-5:]]) < 0.5 * np.mean([line["loss"] for line in lines[:5]])
    document = results(tmp_path / "log")
    assert document["model"]["kind"] == "sparse"
    assert document["model"]["engine"] in (["torch"] if engine == "torch" else ["cpu", "torch"])


def test_deterministic_repeats_are_bit_equal(run, tmp_path):
    for name in ("a", "b"):
        assert run("train", *SPARSE, "-i", 4, "--deterministic", log=tmp_path / name) == EXIT_OK
    one, other = last_checkpoint(tmp_path / "a"), last_checkpoint(tmp_path / "b")
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_training_may_take_another_engine(run, tmp_path):
    assert run("train", *SPARSE, "-i", 3, "--sparse-engine", "torch") == EXIT_OK
    assert run("train", *SPARSE, "-i", 5, "--sparse-engine", "auto") == EXIT_OK
    assert results(tmp_path / "log")["checkpoint"]["step"] == 5


def test_a_sparse_network_tags_events(run, tmp_path):
    assert run("train", *SPARSE, "-i", 3) == EXIT_OK
    assert run("inference", "-mb", 2, network=False) == EXIT_OK
    assert results(tmp_path / "log")["model"]["kind"] == "sparse"
    with h5py.File(tmp_path / "log" / "inference.h5") as file:
        assert len(file["Events/event_id"]) == 5
        assert len(file["Data/sparse2d_cosmictagger_group/voxels"]) > 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--bottleneck-size", 4),
        ("--conv-mode", "3D"),
        ("--crossing-levels", 0, 1),
        ("--supervised-levels", 0, 1),
    ],
    ids=str,
)
@pytest.mark.parametrize("exchange_levels", [0, 1])
@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
def test_16_bits(run, tmp_path, precision, engine, exchange_levels, options):
    words = ("--precision", precision, "--sparse-engine", engine, "--exchange-levels", exchange_levels, *options)
    assert run("train", *SPARSE, "-i", 3, *words) == EXIT_OK
    assert np.isfinite(metrics_lines(tmp_path / "log")[-1]["loss"])


def test_pixels_that_zero_suppression_leaves_out_are_tagged_background_and_counted(run, tmp_path, events_file):
    """At a quarter of the charge (one halving) noise alone is below 2, and the faintest track, 20, above 2.5."""
    words = ("-i", 30, "--zero-suppression", 2.5, "--aux-file", events_file)
    assert run("train", *SPARSE, *words) == EXIT_OK
    trained = metrics_lines(tmp_path / "log", "validation")[-1]
    tagged = {}
    for views in (1, 4):  # the checkpoint says what the network sees
        assert run("inference", "-mb", 2, "--displays", 0, "--views", views, network=False) == EXIT_OK
        tagged[views] = results(tmp_path / "log")["metrics"]["validation"]
        reader = Hdf5Reader([tmp_path / "log" / "inference.h5"], image_producer="cosmictagger")
        truth = Hdf5Reader([events_file], image_producer="sbndwire", label_producer="sbnd_cosmicseg", downsample=1)
        right, left_out = [], 0
        for entry in range(5):
            for pixels, ours in zip(truth.read(entry).planes, reader.read(entry).planes, strict=True):
                assert np.array_equal(pixels.index, ours.index)
                active = pixels.label > 0
                right.append((ours.value == pixels.label)[active].mean())
                alone = pixels.value < 2
                surrounding = neighbourhood(pixels)
                left_out += (surrounding < 2.5).sum()
                assert (ours.value[surrounding < 2.5] == 0).all()
                assert (surrounding[alone] < 2.5).any()
        assert left_out > 50
        assert np.mean(right) == pytest.approx(tagged[views]["mean"]["average"]["non_background_accuracy"], abs=1e-6)
    assert tagged[1]["mean"]["average"]["cosmic_iou"] == pytest.approx(trained["cosmic_iou"], abs=1e-5)
    assert tagged[4]["loss"] != tagged[1]["loss"]


def test_validations_look_as_often_as_inference(run, tmp_path, events_file):
    assert run("train", *SPARSE, "-i", 12, "--aux-file", events_file, "--views", 4) == EXIT_OK
    validated = metrics_lines(tmp_path / "log", "validation")[-1]
    losses = {}
    for views in (1, 4):
        assert run("inference", "-mb", 2, "--displays", 0, "--views", views, network=False) == EXIT_OK
        losses[views] = results(tmp_path / "log")["metrics"]["validation"]["loss"]
    assert validated["loss"] == pytest.approx(losses[4], rel=1e-5)
    assert validated["loss"] != pytest.approx(losses[1], rel=1e-3)


def neighbourhood(pixels):
    image = np.zeros((18, 34), np.float32)  # 16 × 32 pixels with a margin
    tick, wire = np.divmod(pixels.index, 32)
    image[tick + 1, wire + 1] = pixels.value
    return sum(image[tick + dt, wire + dw] for dt in range(3) for dw in range(3))


def test_a_network_that_saw_other_pixels_is_refused(run, tmp_path, capsys):
    assert run("train", *SPARSE, "-i", 3, "--zero-suppression", 2.5) == EXIT_OK
    assert run("inference", "--zero-suppression", 3, network=False) == EXIT_USER_ERROR
    assert "--zero-suppression: checkpoint 2.5, asked 3.0" in capsys.readouterr().err
    assert run("train", *SPARSE, "-i", 5) == EXIT_USER_ERROR
    assert "--zero-suppression 0.0, there 2.5" in capsys.readouterr().err


def test_the_script_shows_what_thresholds_leave_out(events_file, project):
    script = project / "scripts" / "zero_suppression.py"
    command = [sys.executable, script, events_file, "--thresholds", "0", "2.5", "1000"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    title, head, *lines = done.stdout.splitlines()
    assert title.startswith("5 events at 16 × 32, ")
    assert head.split()[0] == "threshold"
    rows = [[float(word.rstrip("%")) for word in line.split()] for line in lines]
    assert rows[0] == [0, 0, 0, 0, 0]
    assert rows[1][0] == 2.5
    assert 10 < rows[1][2] < 30
    assert rows[1][3:] == [0, 0]
    assert rows[2] == [1000, 100, 100, 100, 100]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere.h5",), "There is no file 'nowhere.h5'; check the path."),
        (("{file}", "--events", "0"), "--events: 0 is too small; it must be at least 1."),
        (("{file}", "--thresholds", "1", "-1"), "--zero-suppression: -1 is too small; it must be at least 0."),
        (("{file}", "--thresholds", "nan"), "--zero-suppression: nan is no number to compute with."),
    ],
)
def test_bad_input_to_that_script_is_one_line(events_file, project, words, message):
    script = project / "scripts" / "zero_suppression.py"
    command = [sys.executable, str(script), *(word.format(file=events_file) for word in words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {message}\n")
