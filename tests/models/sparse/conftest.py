"""Sparse images, their sites, and the engines that work here."""

import numpy as np
import pytest
import torch

from cosmictagger.models.sparse.engine import Engine, SparseFeatures
from cosmictagger.models.sparse.sites import SiteTables, build_sites
from cosmictagger.models.sparse.tables import Builder
from cosmictagger.models.sparse.torch_engine import TorchEngine

PLANES, SHAPE = 3, (16, 32)


def occupancy(kind: str, images: int = 2, planes: int = PLANES, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Active pixels [N, P, H, W] of the cases that every engine must handle."""
    active = np.zeros((images, planes, *shape), bool)
    rng = np.random.default_rng(3)
    if kind == "full":
        active[:] = True
    elif kind == "random":
        active[:] = rng.random(active.shape) < 0.15
        active[0, 0, 3, 4:20] = True
        active[0, 0, :, 7] = True
    elif kind == "empty plane":
        active[:] = rng.random(active.shape) < 0.3
        active[0, 1] = False
    elif kind == "single site":
        active[images - 1, planes - 1, 5, 9] = True
    elif kind == "corners":
        active[:, :, [[0], [-1]], [0, -1]] = True
    else:
        assert kind == "empty"
    return active


OCCUPANCIES = ["random", "full", "empty plane", "corners", "single site", "empty"]


def tables_of(active: np.ndarray, sizes: tuple[frozenset[int], ...], builder: Builder | None = None) -> SiteTables:
    images, planes, height, width = active.shape
    counts = active.sum(axis=(2, 3)).astype(np.int32)
    index = np.full((images, planes, max(int(counts.max()), 1)), -1, np.int32)
    for image in range(images):
        for plane in range(planes):
            index[image, plane, : counts[image, plane]] = np.flatnonzero(active[image, plane])
    return build_sites(index, counts, (height, width), sizes, builder, ticks_at=range(len(sizes) - 1))


def features_of(images: torch.Tensor, active: np.ndarray, engine: Engine, sizes) -> SparseFeatures:
    """The values of dense images [N, P, H, W] at the active pixels."""
    sites = engine.prepare(tables_of(active, sizes), torch.device("cpu"))
    return SparseFeatures(images[torch.from_numpy(active)][:, None], sites)


def _cpu_engine() -> Engine:
    cpu_engine = pytest.importorskip("cosmictagger.models.sparse.cpu_engine")
    engine = cpu_engine.load()
    if not isinstance(engine, cpu_engine.CpuEngine):
        pytest.skip(f"the cpu engine does not build here: {engine}")
    return engine


ENGINES = {"torch": TorchEngine, "cpu": _cpu_engine}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()
