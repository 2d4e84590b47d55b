"""The contract of the engines on a GPU: what they compute there is what PyTorch computes on the CPU."""

import pytest
import torch

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models import build_network
from cosmictagger.models.sparse import spconv_engine
from cosmictagger.models.sparse.engine import SparseFeatures
from cosmictagger.models.sparse.sites import kernel_sizes
from cosmictagger.models.sparse.torch_engine import TorchEngine

from ..conftest import SMALL
from .conftest import OCCUPANCIES, PLANES, SHAPE, occupancy, tables_of

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here"),
]
# float32 over a network of ten layers; TF32 is off unless somebody turns it on.
FLOAT32 = {"rtol": 1e-3, "atol": 1e-3}


@pytest.fixture(params=["torch", "spconv"])
def engine(request):
    if request.param == "torch":
        return TorchEngine()
    engine = spconv_engine.load(torch.device("cuda"))
    if isinstance(engine, str):
        pytest.skip(engine)
    return engine


@pytest.mark.parametrize("kind", OCCUPANCIES)
def test_a_network_computes_the_same_as_on_the_cpu(engine, kind):
    config = NetworkConfig(
        **SMALL | {"n_initial_filters": 8}, exchange_levels=1, crossing_levels=(0,), crossing_offset=16.0, sparse=True
    )
    active = occupancy(kind)
    tables = tables_of(active, kernel_sizes(config))
    images = torch.rand(len(tables.levels[0]), 1, generator=torch.Generator().manual_seed(1))
    results = []
    for place, computing in (("cpu", TorchEngine()), ("cuda", engine)):
        torch.manual_seed(0)
        network = build_network(config, PLANES, SHAPE, engine=computing).to(place)
        features = SparseFeatures(images.to(place), computing.prepare(tables, torch.device(place)))
        logits = network(features)
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other.cpu(), **FLOAT32)
