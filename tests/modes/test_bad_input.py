"""Bad input: one clear line, exit code 2, no traceback, nothing half-written."""

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest

from cosmictagger.data.events import EventId, PlanePixels
from cosmictagger.data.products import Sparse2D
from cosmictagger.data.writer import LarcvWriter

from .conftest import IMAGE, LABEL, SHAPE, SMALL, learnable_planes, results, write_events

EMPTY = PlanePixels(np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.uint8))


@pytest.fixture
def refused(run, tmp_path, capsys):
    """Run something that must be refused, and return its one line on stderr."""

    def refused(mode, *words, **options):
        code = run(mode, *words, **options)
        line = capsys.readouterr().err
        assert code == 2, line
        assert line.startswith("error: ")
        assert line.count("\n") == 1, line
        assert not list(tmp_path.rglob(".*.part")) + list(tmp_path.rglob("*.tmp"))
        return line

    return refused


def truncated(path):
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size * 2 // 3)
    return path


@pytest.mark.parametrize("mode", ["train", "iotest"])
def test_no_such_file(refused, tmp_path, mode):
    assert f"here is no file '{tmp_path / 'none.h5'}'" in refused(mode, "-i", 4, file=tmp_path / "none.h5")


def test_no_file_named(tmp_path, capsys):
    from cosmictagger.cli import main

    assert main(["train", "-i", "4", "-ld", str(tmp_path / "log")]) == 2
    assert "--file: no input" in capsys.readouterr().err


def test_a_glob_that_matches_nothing(refused, tmp_path):
    assert "*.hdf5" in refused("iotest", "-i", 4, file=tmp_path / "*.hdf5")


def test_not_hdf5(refused, tmp_path):
    (tmp_path / "text.h5").write_text("hello")
    assert "text.h5" in (line := refused("train", "-i", 4, file=tmp_path / "text.h5"))
    assert "HDF5" in line


def test_hdf5_but_not_larcv3(refused, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["numbers"] = np.arange(4)
    assert "larcv3" in refused("train", "-i", 4, file=tmp_path / "other.h5")


def test_no_such_producer_names_those_there(refused):
    line = refused("train", "-i", 4, "--image-producer", "sbndwires")
    assert "sbndwires" in line
    assert "sbndwire" in line.replace("sbndwires", "")
    assert "sbnd_cosmicseg" in line


def test_truncated_file(refused, tmp_path):
    assert "cut.h5" in refused("train", "-i", 4, file=truncated(write_events(tmp_path / "cut.h5", 3)))


def test_wrong_shape(refused):
    line = refused("train", "-i", 4, "--shape", 640, 1024)
    assert "--shape: 640 1024 was asked for" in line
    assert "gives 32 64" in line


def test_a_depth_that_does_not_divide_names_those_that_do(refused):
    line = refused("train", "-i", 4, "--network-depth", 6)
    assert "cannot be halved 6 times" in line
    assert "1, 2, 3 or 4" in line


def test_labels_outside_0_to_2(refused, tmp_path):
    with LarcvWriter(tmp_path / "labels.h5", shape=SHAPE) as writer:
        planes = learnable_planes(0)
        planes[1].label[3] = 7
        writer.append(EventId(1, 1, 1), {IMAGE: Sparse2D.charges(planes), LABEL: Sparse2D.labels(planes)})
    line = refused("train", "-i", 4, file=tmp_path / "labels.h5")
    assert "labels.h5" in line
    assert "entry 0" in line
    assert "plane 1" in line
    assert "7" in line


def test_too_many_voxels(refused):
    line = refused("train", "-i", 4, "--max-voxels", 20)
    assert "--max-voxels is 20" in line
    assert "events.h5" in line


def test_truncation_is_reported(run, tmp_path, capsys):
    assert run("train", "-i", 4, "--max-voxels", 20, "--on-overflow", "truncate") == 0
    assert "images were truncated by" in capsys.readouterr().err
    assert results(tmp_path / "log")["io"]["truncated_pixels"] > 0


@pytest.mark.parametrize("planes", [1, 3], ids=["empty plane", "event without pixels"])
def test_empty_planes_are_background_and_said_so(run, tmp_path, capsys, planes):
    with LarcvWriter(tmp_path / "empty.h5", shape=SHAPE) as writer:
        for entry in range(2):
            content = [EMPTY] * planes + learnable_planes(entry)[planes:]
            writer.append(EventId(1, 1, entry), {IMAGE: Sparse2D.charges(content), LABEL: Sparse2D.labels(content)})
    assert run("train", "-i", 4, "-mb", 2, file=tmp_path / "empty.h5") == 0
    line = capsys.readouterr().err
    assert "planes without pixels" in line
    assert line.count("\n") == 1
    weights = ("--weights-location", tmp_path / "log")
    assert run("inference", *weights, file=tmp_path / "empty.h5", network=False, log=tmp_path / "inference") == 0
    mean = results(tmp_path / "inference")["metrics"]["validation"]["mean"]
    assert 0 <= mean["planes"][0]["cosmic_iou"] <= 1


def test_iterations_not_above_warm_up(refused, tmp_path):
    assert "--warmup-steps" in refused("train", "-i", 2)
    assert not (tmp_path / "log").exists()
    assert "--warmup-steps" in refused("iotest", "-i", 3, "--warmup-steps", 3)


def test_unwritable_directory(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "--log-directory" in refused("train", "-i", 4, log=tmp_path / "file" / "log")


def test_no_checkpoint(refused, tmp_path):
    assert "--weights-location" in refused("inference", "--weights-location", tmp_path / "none", network=False)


def test_not_a_checkpoint(refused, tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"no weights")
    assert "is not a checkpoint" in refused("inference", "--weights-location", tmp_path / "weights.pt", network=False)


def test_a_directory_with_another_training(refused, run):
    assert run("train", "-i", 4) == 0
    line = refused("train", "-i", 8, "-lr", 0.1)
    assert "--learning-rate 0.1, there 0.0003" in line


def test_no_resume_into_a_directory_with_checkpoints(refused, run):
    assert run("train", "-i", 4) == 0
    assert "holds checkpoints" in refused("train", "-i", 8, "--no-resume")


def test_gpu_where_there_is_none(refused):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "--compute-mode: GPU" in refused("train", "-i", 4, "-m", "GPU")


def test_training_without_labels(refused, unlabelled_file):
    assert "--label-producer" in refused("train", "-i", 4, "--label-producer", "none")
    assert "sbnd_cosmicseg" in refused("train", "-i", 4, file=unlabelled_file)


def test_a_failed_run_says_so_in_its_results(refused, tmp_path):
    refused("train", "-i", 4, "--max-voxels", 20)
    found = results(tmp_path / "log")
    assert found["status"] == "failed"
    assert "--max-voxels" in found["reason"]


def test_traceback_only_when_asked_for(run, tmp_path, capsys):
    assert run("train", "-i", 4, "--verbosity", 2, file=tmp_path / "none.h5") == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_training_cleanly(project, events_file, tmp_path, number, code):
    log = tmp_path / "log"
    words = ["train", "-f", str(events_file), "-ld", str(log), "-i", "100000", "-mb", "2", "-ci", "100000", *SMALL]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, str(project / "bin" / "exec.py"), *words], stdout=subprocess.DEVNULL, env=environment
    )
    try:
        deadline = time.monotonic() + 90
        while not ((log / "metrics.jsonl").exists() and (log / "metrics.jsonl").stat().st_size):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(number)
        assert process.wait(timeout=60) == code
    finally:
        process.kill()
    found = results(log)
    assert found["status"] == "interrupted"
    assert found["reason"] == f"stopped by {number.name}"
    assert (log / "checkpoints" / f"checkpoint-{found['checkpoint']['step']:08d}.pt").exists()
