"""simulate from the command line, and training on simulated images from memory."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmictagger.cli import main
from cosmictagger.config.sections import SimulationConfig
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.errors import UserError
from cosmictagger.modes.simulate import share

from .conftest import SMALL, results


def simulate(path, *words):
    return main(["simulate", "--output", str(path), "--workers", "1", *map(str, words)])


def test_simulate_writes_labelled_events(tmp_path, capsys):
    assert simulate(tmp_path / "a.h5", "--events", 3, "--seed", 5, "--truth-3d") == 0
    assert "Wrote 3 events" in capsys.readouterr().out
    reader = Hdf5Reader([tmp_path / "a.h5"], image_producer="sbndwire", label_producer="sbnd_cosmicseg")
    assert (len(reader), reader.shape) == (3, (1280, 2048))
    assert {"sparse3d", "cluster2d", "bbox2d", "particle"} <= {product.type for product in reader.products()}
    assert all((plane.label == 1).sum() > 1000 for plane in reader.read(0).planes)


def test_events_do_not_depend_on_how_many_are_made(tmp_path):
    simulate(tmp_path / "a.h5", "--events", 3, "--seed", 5)
    simulate(tmp_path / "b.h5", "--events", 1, "--seed", 5, "--first-event", 2)
    readers = [Hdf5Reader([tmp_path / name], image_producer="sbndwire") for name in ("a.h5", "b.h5")]
    for first, second in zip(readers[0].read(2).planes, readers[1].read(0).planes, strict=True):
        assert np.array_equal(first.index, second.index)
        assert np.array_equal(first.value, second.value)


def test_an_existing_file_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "a.h5").write_text("precious")
    assert simulate(tmp_path / "a.h5", "--events", 1) == 2
    assert "exists; remove it or name another file" in capsys.readouterr().err
    assert (tmp_path / "a.h5").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--output", "none/a.h5"), "there is no directory 'none'"),
        (("--detector", "none.yaml"), "cannot read 'none.yaml'"),
        (("--mix", "0", "0", "0", "0"), "at least one above 0"),
        (("--events", "0"), "--events: 0 is too small"),
    ],
)
def test_mistakes_get_one_clear_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--events", "1", "--workers", "1", *words]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_training_on_synthetic_images_reads_no_file(tmp_path):
    words = [
        "train",
        "--synthetic",
        "--synthetic-events",
        "2",
        "-i",
        "3",
        "--downsample",
        "3",
        "-ld",
        str(tmp_path / "log"),
    ]
    assert main([*words, *SMALL, "--verbosity", "0", "--intra-op-parallelism-threads", "1"]) == 0
    found = results(tmp_path / "log")
    assert found["io"]["bytes_read"] == 0
    assert found["throughput"]["images"] == 2
    assert found["metrics"]["train"]["mean"]["average"]["accuracy"] > 0


def test_events_are_numbered_from_0(tmp_path):
    simulate(tmp_path / "a.h5", "--events", 2, "--seed", 9)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["Events/event_id"][:]["event"].tolist() == [0, 1]


def test_shares_of_the_ranks_are_all_events_once():
    whole = SimulationConfig(events=10, first_event=3, output="some/where.h5")
    shares = [share(whole, rank, 4) for rank in range(4)]
    numbers = [number for part in shares for number in range(part.first_event, part.first_event + part.events)]
    assert numbers == list(range(3, 13))
    assert [part.output for part in shares] == [f"some/where-000{rank}.h5" for rank in range(4)]
    assert share(whole, 0, 1) == whole


def test_more_ranks_than_events():
    with pytest.raises(UserError, match="3 events cannot be shared by 4 ranks"):
        share(SimulationConfig(events=3), 0, 4)


@pytest.mark.mpi
def test_ranks_simulate_side_by_side(tmp_path, project):
    mpirun = Path(sys.executable).with_name("mpirun")
    if not mpirun.exists():
        pytest.skip("there is no mpirun beside this Python (pip install mpich)")
    command = [mpirun, "-n", "2", sys.executable, project / "bin" / "exec.py", "simulate", "-d", "--events", "3"]
    done = subprocess.run(
        [*map(str, command), "--output", str(tmp_path / "a.h5")], timeout=120, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    simulate(tmp_path / "whole.h5", "--events", 3)
    parts = Hdf5Reader([str(tmp_path / "a-*.h5")], image_producer="sbndwire")
    whole = Hdf5Reader([tmp_path / "whole.h5"], image_producer="sbndwire")
    assert len(parts) == 3
    for entry in range(3):
        assert np.array_equal(parts.read(entry).planes[2].value, whole.read(entry).planes[2].value)
