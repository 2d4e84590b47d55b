"""spconv's convolution against that of plain PyTorch; in float32, the only precise type it has."""

import pytest
import torch

from cosmictagger.models.sparse import spconv_engine
from cosmictagger.models.sparse.torch_engine import TorchEngine

from .conftest import OCCUPANCIES, occupancy, tables_of

# Sums of at most 33 * 25 products of order one, rounded to 24 bits in another order.
FLOAT32 = {"rtol": 1e-4, "atol": 1e-4}
SIZES = (frozenset({3, 5}),)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def spconv():
    pytest.importorskip("spconv", reason="spconv is not installed (pip install spconv)")
    engine = spconv_engine.load(CPU)
    assert not isinstance(engine, str), engine
    return engine


@pytest.mark.parametrize("kind", OCCUPANCIES)
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 8), (3, 5), (33, 17)])
def test_convolution(spconv, kind, size, inputs, outputs):
    tables = tables_of(occupancy(kind), SIZES)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(len(tables.levels[0]), inputs, generator=generator).requires_grad_()
    weight = torch.randn(outputs, inputs, size, size, generator=generator).requires_grad_()
    bias = torch.randn(outputs, generator=generator).requires_grad_()
    results = []
    for engine in (spconv, TorchEngine()):
        result = engine.convolve(values, weight, bias, engine.prepare(tables, CPU), 0)
        results.append([result, *torch.autograd.grad(result.square().mean(), [values, weight, bias])])
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, **FLOAT32, equal_nan=True)


def test_its_absence_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "spconv.cppconstants", None)
    reason = spconv_engine.load(CPU)
    assert isinstance(reason, str)
    assert "pip install spconv" in reason
