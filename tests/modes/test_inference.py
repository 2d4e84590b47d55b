"""Inference: every entry once, on the active pixels, with the numbers that validation gave."""

import csv
import subprocess
import sys

import h5py
import jsonschema
import numpy as np
import pytest

from cosmictagger.data.events import EventId, Product
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.products import Particles, Sparse2D, blank_particles
from cosmictagger.data.writer import LarcvWriter
from cosmictagger.reporting.results import load_schema

from .conftest import IMAGE, LABEL, SHAPE, learnable_planes, metrics_lines, results


@pytest.fixture(scope="module")
def trained(tmp_path_factory, events_file):
    """The log directory of a short training, validated on the events it was trained on."""
    from cosmictagger.cli import main

    from .conftest import SMALL

    log = tmp_path_factory.mktemp("trained") / "log"
    words = [
        "train",
        "-f",
        str(events_file),
        "-ld",
        str(log),
        "-i",
        "40",
        "-mb",
        "5",
        "-lr",
        "5e-3",
        "--verbosity",
        "0",
    ]
    assert main([*words, *SMALL, "--aux-file", str(events_file), "--intra-op-parallelism-threads", "1"]) == 0
    return log


@pytest.fixture
def infer(run, trained, tmp_path):
    def infer(*words, **options):
        code = run("inference", "--weights-location", trained, *words, network=False, **options)
        assert code == 0
        return tmp_path / "log"

    return infer


def read(path, producer):
    reader = Hdf5Reader([path], image_producer=producer)
    return [reader.read(entry) for entry in range(len(reader))]


def test_metrics_are_those_of_the_validation(infer, trained):
    found = results(infer("-mb", 2, "--displays", 0))
    jsonschema.validate(found, load_schema())
    validated = metrics_lines(trained, "validation")[-1]
    for name, value in found["metrics"]["validation"]["mean"]["average"].items():
        assert value == pytest.approx(validated[name], abs=1e-9), name
    assert found["metrics"]["validation"]["loss"] == pytest.approx(validated["loss"], rel=1e-6)
    assert found["metrics"]["validation"]["images"] == 5
    assert found["checkpoint"]["step"] == 40


def test_the_network_learned(trained):
    assert metrics_lines(trained, "validation")[-1]["non_background_accuracy"] > 0.8


@pytest.mark.parametrize("batch", [1, 2, 5, 8])
def test_output_holds_every_active_pixel_of_every_entry(infer, events_file, batch):
    log = infer("-mb", batch, "--displays", 0)
    inputs = Hdf5Reader([events_file], image_producer="sbndwire", downsample=1)
    tags = read(log / "inference.h5", "cosmictagger")
    scores = [read(log / "inference.h5", f"cosmictagger_{name}") for name in ("background", "cosmic", "neutrino")]
    assert len(tags) == len(inputs) == 5
    for entry in range(5):
        event = inputs.read(entry)
        assert tags[entry].event_id == event.event_id == (7, 1, 100 + entry)
        for plane, pixels in enumerate(event.planes):
            assert np.array_equal(tags[entry].planes[plane].index, pixels.index)
            stack = np.stack([kind[entry].planes[plane].value for kind in scores])
            assert stack.sum(axis=0) == pytest.approx(1, abs=1e-6)
            assert np.array_equal(tags[entry].planes[plane].value, stack.argmax(axis=0))


def test_the_table_agrees_with_the_file(infer, events_file):
    log = infer("-mb", 3, "--displays", 0)
    rows = list(csv.DictReader((log / "inference.csv").open()))
    assert [(int(row["entry"]), int(row["run"]), int(row["event"])) for row in rows] == [
        (e, 7, 100 + e) for e in range(5)
    ]
    truth = Hdf5Reader([events_file], image_producer="sbndwire", label_producer="sbnd_cosmicseg", downsample=1)
    tags = read(log / "inference.h5", "cosmictagger")
    for entry, row in enumerate(rows):
        for plane in range(3):
            tag, label = tags[entry].planes[plane].value, truth.read(entry).planes[plane].label
            assert int(row[f"plane{plane}_true_neutrino"]) == (label == 2).sum()
            right = ((tag == label) & (label > 0)).sum() / (label > 0).sum()
            assert float(row[f"plane{plane}_non_background_accuracy"]) == pytest.approx(right, abs=1e-5)


def test_displays_are_drawn_for_the_first_entries(infer):
    log = infer("--displays", 2)
    assert sorted(path.name for path in (log / "displays").iterdir()) == ["entry_0000000.png", "entry_0000001.png"]


def test_input_without_labels_is_tagged_all_the_same(infer, unlabelled_file, trained, tmp_path, capsys):
    log = infer("--displays", 1, "--verbosity", 1, file=unlabelled_file)
    assert "The input has no labels" in capsys.readouterr().out
    assert not (log / "inference.csv").exists()
    assert results(log)["metrics"]["validation"] is None
    assert len(read(log / "inference.h5", "cosmictagger")) == 5


def test_predictions_do_not_depend_on_labels(infer, unlabelled_file, events_file, tmp_path):
    first = infer("--output-file", tmp_path / "a.h5", "--displays", 0)
    infer("--output-file", tmp_path / "b.h5", "--displays", 0, file=unlabelled_file, log=tmp_path / "other")
    with h5py.File(tmp_path / "a.h5") as a, h5py.File(tmp_path / "b.h5") as b:
        table = "Data/sparse2d_cosmictagger_neutrino_group/voxels"
        assert np.array_equal(a[table][:], b[table][:])
    assert not (first / "inference.h5").exists()


def test_the_latest_checkpoint_of_the_log_directory_is_found(run, trained):
    assert run("inference", "--displays", 0, log=trained, network=False) == 0
    assert results(trained)["mode"] == "inference"
    assert results(trained, "train")["mode"] == "train"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--network-depth", "3"), "is of another network: --network-depth: checkpoint 2, asked 3."),
        (("--downsample", "0"), "is of another network: --downsample: checkpoint 1, asked 0."),
        (
            ("--no-batch-norm", "--growth-rate", "multiplicative"),
            "--batch-norm: checkpoint true, asked false; --growth-rate",
        ),
        (("--input-transform", "none"), "--input-transform: checkpoint log, asked none"),
    ],
)
def test_a_checkpoint_of_another_network_says_which_option_differs(run, trained, capsys, tmp_path, words, message):
    assert run("inference", "--weights-location", trained, *words, network=False) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_real_larcv_reads_the_output(infer, events_file):
    pytest.importorskip("larcv", reason="the larcv library is not installed (make larcv)")
    from cosmictagger.data.larcv_reader import LarcvReader

    log = infer("--displays", 0)
    for producer in ("cosmictagger", "cosmictagger_neutrino"):
        settings = {"image_producer": producer, "label_producer": "none", "particle_producer": "none", "nplanes": 3}
        theirs = LarcvReader([str(log / "inference.h5")], downsample=0, **settings)
        for entry, ours in enumerate(read(log / "inference.h5", producer)):
            event = theirs.read(entry)
            assert event.event_id == ours.event_id
            for plane in range(3):
                assert np.array_equal(event.planes[plane].index, ours.planes[plane].index)
                assert np.array_equal(event.planes[plane].value, ours.planes[plane].value)
        theirs.close()


def test_views_change_probabilities_and_what_is_written_agrees_with_them(infer, events_file):
    read_scores = lambda log: [  # noqa: E731
        read(log / "inference.h5", f"cosmictagger_{name}") for name in ("background", "cosmic", "neutrino")
    ]
    log = infer("--sparse", "-mb", 2, "--displays", 0)
    once, plain = read_scores(log), results(log)["metrics"]["validation"]
    log = infer("--sparse", "-mb", 2, "--displays", 0, "--views", 4)
    averaged, found = read_scores(log), results(log)["metrics"]["validation"]
    assert found["images"] == plain["images"] == 5
    assert found["loss"] != plain["loss"]
    truth = Hdf5Reader([events_file], image_producer="sbndwire", label_producer="sbnd_cosmicseg", downsample=1)
    moved, right, count = 0.0, [], 0
    for entry in range(5):
        for plane, pixels in enumerate(truth.read(entry).planes):
            stack, before = (
                np.stack([kind[entry].planes[plane].value for kind in scores]) for scores in (averaged, once)
            )
            assert stack.sum(axis=0) == pytest.approx(1, abs=1e-5)
            moved, count = moved + np.abs(stack - before).sum(), count + stack.size
            active = pixels.label > 0
            right.append((stack.argmax(axis=0) == pixels.label)[active].mean())
    assert 1e-6 < moved / count < 0.2
    assert np.mean(right) == pytest.approx(found["mean"]["average"]["non_background_accuracy"], abs=1e-6)


def test_views_of_a_dense_network_are_refused(run, trained, capsys):
    assert run("inference", "--weights-location", trained, "--views", 2, network=False) == 2
    assert run("train", "-i", 4, "--views", 2) == 2
    refused = "--views: averages over the active pixels of a sparse network; add --sparse."
    assert capsys.readouterr().err.count(refused) == 2


def test_the_output_names_its_products(infer):
    log = infer("--displays", 0, "--output-producer", "mine")
    products = Hdf5Reader([log / "inference.h5"], image_producer="mine").products()
    assert set(products) == {
        Product("sparse2d", name) for name in ("mine", "mine_background", "mine_cosmic", "mine_neutrino")
    }


def test_metrics_are_told_apart_by_what_happened(infer, tmp_path, capsys):
    truths = [(12, 0, 1.5), (14, 0, 0.4), None, (14, 1, 2.5)]
    with LarcvWriter(tmp_path / "truth.h5", shape=SHAPE) as writer:
        for entry, truth in enumerate(truths):
            records = blank_particles(0 if truth is None else 1)
            if truth is not None:
                records["pdg"], records["current_type"], records["energy_init"] = truth
            planes = learnable_planes(entry)
            products = {IMAGE: Sparse2D.charges(planes), LABEL: Sparse2D.labels(planes)}
            products[Product("particle", "sbndneutrino")] = Particles(records)
            writer.append(EventId(1, 1, entry), products)
    log = infer("-mb", 3, "--displays", 1, file=tmp_path / "truth.h5")
    found = results(log)
    jsonschema.validate(found, load_schema())
    groups = found["metrics"]["interactions"]
    kinds = [(g["kind"], g["energy_from"], g["energy_to"], g["images"]) for g in groups]
    assert kinds == [
        ("nue_cc", None, None, 1),
        ("nue_cc", 1.0, 2.0, 1),
        ("numu_cc", None, None, 1),
        ("numu_cc", 0.0, 0.5, 1),
        ("nc", None, None, 1),
        ("nc", 2.0, None, 1),
        ("cosmic", None, None, 1),
    ]
    overall = np.mean([g["neutrino_iou"] for g in groups if g["energy_from"] is None])
    assert overall == pytest.approx(found["metrics"]["validation"]["mean"]["average"]["neutrino_iou"])
    with (log / "inference.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [row["interaction"] for row in rows] == ["nue_cc", "numu_cc", "cosmic", "nc"]
    assert [row["neutrino_energy"] for row in rows] == ["1.5", "0.4", "", "2.5"]
    assert "ν_e CC" in capsys.readouterr().out
    assert "cosmic only" in (log / "report.html").read_text()


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--exchange-levels", 1),
        ("--doubled-levels", 1),
        ("--crossing-levels", 0, 1),
        ("--supervised-levels", 0, 1),
    ],
    ids=str,
)
def test_an_exported_checkpoint_tags_alike(infer, trained, project, tmp_path, options):
    small = tmp_path / "made" / "small.pt"
    command = [sys.executable, project / "scripts" / "export_checkpoint.py", trained, small, *options]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole = next((trained / "checkpoints").iterdir())
    assert small.stat().st_size < 0.6 * whole.stat().st_size  # Adam keeps two numbers for each parameter
    expected = results(infer("--displays", 0))["metrics"]
    infer("--displays", 0, "--weights-location", small, log=tmp_path / "again")
    assert results(tmp_path / "again")["metrics"] == expected


def test_an_exported_checkpoint_may_see_other_pixels(run, trained, project, tmp_path, capsys):
    script = [sys.executable, project / "scripts" / "export_checkpoint.py", trained, tmp_path / "small.pt"]
    command = [str(word) for word in (*script, "--zero-suppression", 2.5)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    words = ("-i", 3, "-mb", 2, "--weights-location", tmp_path / "small.pt")
    assert run("train", *words, log=tmp_path / "other") == 2
    assert "--zero-suppression: checkpoint 2.5, asked 0.0" in capsys.readouterr().err
    assert run("train", *words, "--zero-suppression", 2.5, log=tmp_path / "on") == 0


def test_exporting_nothing_is_refused(project, tmp_path):
    command = [sys.executable, project / "scripts" / "export_checkpoint.py", tmp_path, tmp_path / "small.pt"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "holds no checkpoint" in done.stderr
    assert not (tmp_path / "small.pt").exists()
