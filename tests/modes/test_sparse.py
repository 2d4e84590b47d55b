"""Sparse networks through the program: they learn, resume, repeat, and tag what dense ones tag."""

import h5py
import numpy as np
import pytest
import torch

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


@pytest.mark.parametrize("options", [(), ("--bottleneck-size", 4), ("--conv-mode", "3D")], ids=str)
@pytest.mark.parametrize("exchange_levels", [0, 1])
@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
def test_16_bits(run, tmp_path, precision, engine, exchange_levels, options):
    words = ("--precision", precision, "--sparse-engine", engine, "--exchange-levels", exchange_levels, *options)
    assert run("train", *SPARSE, "-i", 3, *words) == EXIT_OK
    assert np.isfinite(metrics_lines(tmp_path / "log")[-1]["loss"])
