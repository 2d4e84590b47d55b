"""What the levels of a network have to tell in training, against the definition, dense and sparse."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models import build_network
from cosmictagger.models.sparse.engine import SparseFeatures
from cosmictagger.models.sparse.sites import kernel_sizes

from ..conftest import SMALL, randomize
from .conftest import OCCUPANCIES, PLANES, SHAPE, features_of, occupancy

EXACT = {"rtol": 1e-9, "atol": 1e-10}
LEVELS = (0, 1)
DENSE = {
    "2D": {},
    "unshared": {"share_weights": False},
    "3D": {"conv_mode": "3D"},
    "apart": {"block_concat": True, "connections": "concat"},
}


def network_of(options, engine=None):
    config = NetworkConfig(**SMALL | {"supervised_levels": LEVELS} | options, sparse=engine is not None)
    torch.manual_seed(5)
    network = build_network(config, PLANES, SHAPE, engine=engine).double()
    randomize(network)
    return config, network


def labelled(active):
    """Charge at the active pixels, and a class for each of them, as images."""
    rng = np.random.default_rng(4)
    charge = torch.from_numpy(rng.random(active.shape) * active)
    label = torch.from_numpy(rng.integers(0, 3, active.shape) * active)
    return charge, [(label == kind).double() for kind in (1, 2)]


def told_at(network):
    """Listen to what the levels tell: the logits of each, when the network has been called."""
    heard = {}
    for level in LEVELS:

        def hook(module, inputs, output, level=level):
            heard[level] = output.values if isinstance(output, SparseFeatures) else output

        network.levels[level].presence.register_forward_hook(hook)
    return heard


def cross_entropy(logit, true):
    return -(true * F.logsigmoid(logit) + (1 - true) * F.logsigmoid(-logit))


def pooled(images, level):
    """[N, P, H, W] → whether there is any in blocks of 2^level."""
    size = 2**level
    n, planes, height, width = images.shape
    return images.reshape(n, planes, height // size, size, width // size, size).amax(dim=(3, 5))


@pytest.mark.parametrize("options", DENSE.values(), ids=DENSE)
def test_dense_levels_are_judged_by_the_definition(options):
    _, network = network_of(options)
    charge, present = labelled(occupancy("random"))
    heard = told_at(network)
    logits, losses = network.supervised(charge, present)
    torch.testing.assert_close(logits, network(charge), **EXACT)
    expected = torch.zeros(len(charge), dtype=torch.float64)
    for level in LEVELS:
        true = torch.stack([pooled(pixels, level) for pixels in present], dim=2)  # [N, P, 2, h, w]
        expected += cross_entropy(heard[level].reshape(true.shape), true).mean(dim=(1, 2, 3, 4))
    assert losses.dtype is torch.float32
    torch.testing.assert_close(losses, expected.float())


@pytest.mark.parametrize("kind", OCCUPANCIES)
@pytest.mark.parametrize("options", [{}, {"conv_mode": "3D"}], ids=str)
def test_sparse_levels_are_judged_by_their_active_pixels(engine, options, kind):
    config, network = network_of(options | {"norm_statistics": "image"}, engine)
    active = occupancy(kind)
    charge, present = labelled(active)
    sizes = kernel_sizes(config)
    inputs = features_of(charge, active, engine, sizes)
    places = torch.from_numpy(active)
    heard = told_at(network)
    logits, losses = network.supervised(inputs, [inputs.with_values(pixels[places][:, None]) for pixels in present])
    torch.testing.assert_close(logits, network(inputs), **EXACT)
    expected = torch.zeros(len(active))
    for level in LEVELS:
        here = pooled(places.double(), level).bool()
        true = torch.stack([pooled(pixels, level) for pixels in present], dim=4)[here]  # [S, 2]
        image = here.nonzero()[:, 0]
        for number in range(len(active)):
            mine = image == number
            if mine.any():
                expected[number] += cross_entropy(heard[level][mine], true[mine]).mean().float()
    torch.testing.assert_close(losses, expected)


def test_sparse_equals_dense_on_full_images(engine):
    config, sparse = network_of({}, engine)
    _, dense = network_of({})
    dense.load_state_dict(sparse.state_dict())
    active = occupancy("full")
    charge, present = labelled(active)
    inputs = features_of(charge, active, engine, kernel_sizes(config))
    flat = [inputs.with_values(pixels.reshape(-1, 1)) for pixels in present]
    _, one = sparse.supervised(inputs, flat)
    _, two = dense.supervised(charge, present)
    torch.testing.assert_close(one, two)
    one.square().sum().backward()
    two.square().sum().backward()
    reached = 0
    for (name, first), second in zip(sparse.named_parameters(), dense.parameters(), strict=True):
        assert (first.grad is None) == (second.grad is None), name
        if first.grad is not None:
            reached += 1
            # The losses are float32, and with them what the slopes begin with.
            torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-5)
    assert reached > 20


def test_what_levels_tell_changes_no_answer():
    torch.manual_seed(5)
    plain = build_network(NetworkConfig(**SMALL), PLANES, SHAPE).eval()
    told = build_network(NetworkConfig(**SMALL, supervised_levels=LEVELS), PLANES, SHAPE).eval()
    extra = set(told.state_dict()) - set(plain.state_dict())
    assert extra == {f"levels.{level}.presence.{part}" for level in LEVELS for part in ("weight", "bias")}
    told.load_state_dict(told.state_dict() | plain.state_dict())
    images = torch.rand(1, PLANES, *SHAPE)
    assert torch.equal(told(images), plain(images))
