"""Runs on several ranks do what a run on one does."""

import importlib.util
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from .jobs import lines, openmpi, parameters, results, run, words, write_events

pytestmark = pytest.mark.mpi

# float32 sums in another order, four Adam steps: seen 2e-6 at most.
TOLERANCE = 1e-4
TRAIN = ("-i", 4, "-mb", 12, "--warmup-steps", 1, "--no-batch-norm", "-si", 100, "--image-iteration", 0)
STRATEGIES = ("mpi", "ddp", "horovod")


@pytest.fixture(scope="module")
def events(tmp_path_factory) -> Path:
    """Seven events: no number of ranks but one divides them."""
    return write_events(tmp_path_factory.mktemp("events") / "events.h5", 7)


@pytest.fixture(scope="module")
def one_rank(events, tmp_path_factory) -> Path:
    """The log directory of a training on one rank, with a validation."""
    log = tmp_path_factory.mktemp("one") / "log"
    run(1, *words("train", events, log, *TRAIN, "--aux-file", events, "--aux-minibatch-size", 5))
    return log


def assert_same_training(log: Path, other: Path) -> None:
    for mine, its in zip(lines(log, "train"), lines(other, "train"), strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=TOLERANCE)
    own, others = parameters(log, 4), parameters(other, 4)
    assert own.keys() == others.keys()
    for name, value in own.items():
        torch.testing.assert_close(value, others[name], atol=TOLERANCE, rtol=TOLERANCE)


def test_ranks_train_as_one_with_muon(events, tmp_path):
    logs = [tmp_path / "one", tmp_path / "two"]
    for ranks, log in enumerate(logs, 1):
        run(ranks, *words("train", events, log, *TRAIN, "--optimizer", "muon"))
    assert_same_training(*logs)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_ranks_train_as_one(events, one_rank, tmp_path, ranks):
    log = tmp_path / "log"
    out = run(ranks, *words("train", events, log, *TRAIN, "--aux-file", events, "--aux-minibatch-size", 5))
    assert_same_training(log, one_rank)
    mine, its = lines(log, "validation")[-1], lines(one_rank, "validation")[-1]
    assert mine["loss"] == pytest.approx(its["loss"], rel=TOLERANCE)
    found = results(log)
    assert found["metrics"]["validation"]["images"] == 7
    assert found["ranks"] == found["system"]["ranks"] == ranks
    assert found["system"]["gradients"] == "mpi"
    assert found["throughput"]["images"] == 36
    assert found["io"]["bytes_read"] > 0
    assert 0 < found["throughput"]["slowest_over_mean"] <= 1
    step = found["timing"]["step"]
    assert 0 < step["rank_minimum"] <= step["rank_mean"] <= step["mean"]
    assert f"Total img/sec on {ranks} rank(s):" in out
    assert f"Ranks: {ranks} on 1 host, 1 of them reading" in out
    assert "Gradients: mpi (auto: on CPUs" in out


@pytest.mark.parametrize("mode", STRATEGIES)
def test_strategies_train_alike(events, one_rank, tmp_path, mode):
    if importlib.util.find_spec(mode) is None and mode == "horovod":
        pytest.skip("horovod is not installed (scripts/build_horovod.sh)")
    log = tmp_path / "log"
    run(2, *words("train", events, log, *TRAIN, "--distributed-mode", mode, "--io-groups", 2))
    assert_same_training(log, one_rank)
    assert results(log)["system"]["gradients"] == mode


def test_open_mpi_trains_alike(events, one_rank, tmp_path):
    log = tmp_path / "log"
    run(2, *words("train", events, log, *TRAIN), launcher=openmpi())
    assert_same_training(log, one_rank)
    assert "Open MPI" in results(log)["system"]["mpi"]


def test_synchronized_batch_norm_trains_as_one_rank(events, tmp_path):
    with_norm = ["--batch-norm", "--sync-batch-norm", "--aux-file", str(events), "--regularize-weights", "0"]
    with_norm += ["--calibration-steps", "2", "--norm-statistics", "batch"]
    for ranks in (1, 2):
        run(ranks, *words("train", events, tmp_path / str(ranks), *TRAIN, "-lr", 1e-5, *with_norm))
    alone, together = (lines(tmp_path / str(ranks), "validation")[-1] for ranks in (1, 2))
    assert together["loss"] == pytest.approx(alone["loss"], rel=TOLERANCE)


@pytest.mark.parametrize("kind", ["--no-sparse", "--sparse"])
def test_normalization_by_image_trains_as_one_rank(events, tmp_path, kind):
    with_norm = [
        "--batch-norm",
        "--norm-statistics",
        "image",
        "--aux-file",
        str(events),
        "--regularize-weights",
        "0",
        kind,
    ]
    for ranks in (1, 3):
        run(ranks, *words("train", events, tmp_path / str(ranks), *TRAIN, "-lr", 1e-5, *with_norm))
    alone, together = (lines(tmp_path / str(ranks), "validation")[-1] for ranks in (1, 3))
    assert together["loss"] == pytest.approx(alone["loss"], rel=TOLERANCE)


def test_accumulated_micro_steps_are_shared_too(events, one_rank, tmp_path):
    accumulated = ["-mb", "6", "--gradient-accumulation", "2"]
    run(2, *words("train", events, tmp_path / "log", *TRAIN, *accumulated))
    assert_same_training(tmp_path / "log", one_rank)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_resumed_training_equals_an_uninterrupted_one(events, tmp_path, ranks):
    options = ("-mb", 6, "--warmup-steps", 0, "-ci", 2, "--distributed-mode", "mpi")
    run(ranks, *words("train", events, tmp_path / "whole", *options, "-i", 4))
    for iterations in (2, 4):
        out = run(ranks, *words("train", events, tmp_path / "parts", *options, "-i", iterations))
    assert "after step 2 of 4" in out
    whole, parts = parameters(tmp_path / "whole", 4), parameters(tmp_path / "parts", 4)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_a_training_resumes_on_another_number_of_ranks(events, one_rank, tmp_path):
    log = tmp_path / "log"
    aux = ("--aux-file", events)
    run(2, *words("train", events, log, *TRAIN, *aux, "-i", 2))
    out = run(3, *words("train", events, log, *TRAIN, *aux))
    assert "after step 2 of 4" in out
    assert_same_training(log, one_rank)


def test_a_training_that_is_done_says_so_once(events, one_rank):
    out = run(2, *words("train", events, one_rank, *TRAIN, "--aux-file", events, "--aux-minibatch-size", 5))
    assert out.count("All 4 steps are done") == 1


@pytest.fixture(scope="module")
def predictions(events, one_rank, tmp_path_factory) -> Path:
    """The log directory of an inference on one rank."""
    log = tmp_path_factory.mktemp("inference") / "log"
    run(1, *words("inference", events, log, *inference_options(one_rank)))
    return log


def inference_options(weights: Path) -> tuple[object, ...]:
    return ("--weights-location", weights, "-mb", 4, "--no-batch-norm", "--displays", 1)


@pytest.mark.parametrize(("ranks", "groups"), [(2, 1), (3, 1), (3, 3), (4, 2)])
def test_inference_is_the_same_for_any_number_of_ranks(events, one_rank, predictions, tmp_path, ranks, groups):
    log = tmp_path / "log"
    run(ranks, *words("inference", events, log, *inference_options(one_rank), "--io-groups", groups))
    assert_same_tables(log / "inference.h5", predictions / "inference.h5")
    assert (log / "inference.csv").read_text() == (predictions / "inference.csv").read_text()
    mine, its = (results(path)["metrics"]["validation"] for path in (log, predictions))
    assert (mine["images"], mine["mean"], mine["pooled"]) == (7, its["mean"], its["pooled"])
    assert mine["loss"] == pytest.approx(its["loss"], rel=TOLERANCE)


def assert_same_tables(path: Path, expected: Path) -> None:
    """Compare every table of two files: scores to rounding, all else exactly.

    The libraries choose their kernels by the number of images, so the last digits of a score may differ with it: float32
    sums in another order, and absolutely for scores near zero. Classes are whole numbers and so must be equal.
    """
    mine, its = tables(path), tables(expected)
    assert mine.keys() == its.keys()
    assert len(mine) > 4
    for name, table in mine.items():
        if table.dtype.names and "value" in table.dtype.names:
            np.testing.assert_allclose(table["value"], its[name]["value"], rtol=TOLERANCE, atol=1e-6, err_msg=name)
            table["value"] = its[name]["value"]
        assert table.tobytes() == its[name].tobytes(), name


def tables(path: Path) -> dict[str, np.ndarray]:
    """Every table of a file."""
    found: dict[str, np.ndarray] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[:]} if hasattr(item, "dtype") else {}))
    return found


def test_fewer_events_than_ranks(tmp_path, one_rank):
    file = write_events(tmp_path / "two.h5", 2)
    run(4, *words("inference", file, tmp_path / "log", *inference_options(one_rank)))
    assert results(tmp_path / "log")["metrics"]["validation"]["images"] == 2


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_iotest_counts_what_all_ranks_read(events, tmp_path, groups):
    out = run(4, *words("iotest", events, tmp_path, "-i", 6, "-mb", 8, "--io-groups", groups))
    found = results(tmp_path)
    assert found["throughput"]["images"] == 32
    single = run_bytes(events)
    assert found["io"]["bytes_read"] > single
    assert ("Scatter: " in out) == (groups < 4)
    assert (found["io"]["scatter_seconds"] > 0) == (groups < 4)


def run_bytes(file: Path) -> int:
    """About what reading one event takes."""
    return file.stat().st_size // 100


def test_one_rank_works_with_and_without_mpirun(events, tmp_path):
    assert np.isfinite(results_of_one(events, tmp_path))


def results_of_one(events: Path, log: Path) -> float:
    run(1, *words("train", events, log, *TRAIN))
    return float(results(log)["metrics"]["train"]["loss"])
