"""Tiny but learnable larcv3 files, and the program run in this process."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cosmictagger.cli import main
from cosmictagger.data.events import EventId, PlanePixels, Product
from cosmictagger.data.products import Sparse2D
from cosmictagger.data.writer import LarcvWriter

SHAPE = (32, 64)  # ticks, wires at full resolution
IMAGE, LABEL = Product("sparse2d", "sbndwire"), Product("sparse2d", "sbnd_cosmicseg")
SMALL = (
    "--n-initial-filters",
    "4",
    "--network-depth",
    "2",
    "--res-blocks-deepest-layer",
    "1",
    "--res-blocks-final",
    "0",
)


def learnable_planes(seed: int, planes: int = 3) -> list[PlanePixels]:
    """Bright columns are cosmic, medium rows are neutrino, faint scattered pixels are background."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(planes):
        charge = np.zeros(SHAPE, np.float32)
        label = np.zeros(SHAPE, np.uint8)
        noise = rng.random(SHAPE) < 0.05
        charge[noise] = rng.uniform(5, 8, noise.sum())
        row, column = rng.integers(4, SHAPE[0] - 4), rng.integers(4, SHAPE[1] - 4)
        charge[row, 5:40], label[row, 5:40] = rng.uniform(20, 40), 2
        charge[:, column : column + 2], label[:, column : column + 2] = rng.uniform(80, 120), 1
        index = np.flatnonzero(charge).astype(np.int32)
        result.append(PlanePixels(index, charge.flat[index], label.flat[index]))
    return result


def write_events(path: Path, events: int, *, labels: bool = True, first_seed: int = 0) -> Path:
    with LarcvWriter(path, shape=SHAPE) as writer:
        for entry in range(events):
            planes = learnable_planes(first_seed + entry)
            products = {IMAGE: Sparse2D.charges(planes)}
            if labels:
                products[LABEL] = Sparse2D.labels(planes)
            writer.append(EventId(7, 1, 100 + entry), products)
    return path


@pytest.fixture(scope="session")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five labelled events."""
    return write_events(tmp_path_factory.mktemp("data") / "events.h5", 5)


@pytest.fixture(scope="session")
def unlabelled_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same five events without labels."""
    return write_events(tmp_path_factory.mktemp("data") / "unlabelled.h5", 5, labels=False)


Run = Callable[..., int]


@pytest.fixture
def run(events_file: Path, tmp_path: Path) -> Run:
    """Run a mode on the events with a small network; later words override earlier ones."""

    def run(mode: str, *words: str, log: Path | None = None, file: Path = events_file, network: bool = True) -> int:
        threads = torch.get_num_threads()
        try:
            quiet = ("--intra-op-parallelism-threads", "1", "--verbosity", "0", "--io-threads", "1")
            words = (*quiet, *(SMALL if network else ()), *map(str, words))
            return main([mode, "-f", str(file), "-ld", str(log or tmp_path / "log"), *words])
        finally:
            torch.use_deterministic_algorithms(False)
            torch.set_num_threads(threads)

    return run


def results(log: Path, mode: str | None = None) -> dict[str, Any]:
    return json.loads((log / ("results.json" if mode is None else f"results.{mode}.json")).read_text())


def metrics_lines(log: Path, split: str = "train") -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (log / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["split"] == split]
