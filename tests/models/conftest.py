"""Small networks with every parameter drawn at random, so that none is hidden behind a zero or a one."""

from collections.abc import Callable

import pytest
import torch

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models import build_network
from cosmictagger.models.uresnet import UResNet

SMALL = {"n_initial_filters": 2, "network_depth": 2, "res_blocks_per_layer": 1, "res_blocks_deepest_layer": 1}
SMALL |= {"res_blocks_final": 1, "filter_size_initial": 3, "norm_statistics": "batch"}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_network() -> Callable[..., UResNet]:
    """Make a fp64 network: SMALL changed by options, its planes, and its data format."""

    def make(nplanes: int = 3, data_format: str = "channels_last", seed: int = 0, **options) -> UResNet:
        torch.manual_seed(seed)
        network = build_network(NetworkConfig(**SMALL | options), nplanes, (16, 16), data_format).double()
        randomize(network)
        return network

    return make


def randomize(network: torch.nn.Module) -> None:
    """Draw what starts as zero or one: biases, normalizations, running statistics."""
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
            elif tensor.dim() == 1:
                tensor.copy_(torch.randn_like(tensor) * 0.3 + name.endswith("norm.weight"))
            elif not tensor.any():
                tensor.normal_(std=0.3)


def random_images(images: int = 2, nplanes: int = 3, shape: tuple[int, int] = (16, 16), seed: int = 1) -> torch.Tensor:
    return torch.randn(images, nplanes, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
