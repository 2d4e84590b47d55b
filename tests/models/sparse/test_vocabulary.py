"""The sparse UResNet against the dense one: equal on full images, and on sparse ones equal to the masked dense one."""

import numpy as np
import pytest
import torch

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.errors import UserError
from cosmictagger.models import build_network
from cosmictagger.models.sparse.sites import kernel_sizes
from cosmictagger.models.uresnet import UResNet

from ..conftest import SMALL, randomize
from .conftest import ENGINES, OCCUPANCIES, PLANES, SHAPE, features_of, occupancy
from .masked import masked_vocabulary, set_masks

# fp64 networks of a few layers: only the order of summation differs.
EXACT = {"rtol": 1e-8, "atol": 1e-9}

CASES = {
    "convolutional": {},
    "a21-like": {
        "residual": False,
        "downsampling": "max_pooling",
        "upsampling": "interpolation",
        "bottleneck_size": 4,
        "filter_size_deepest": 5,
        "filter_size_initial": 5,
    },
    "concat": {"connections": "concat", "connect_pre_res_blocks_down": False},
    "unconnected": {"connections": "none", "batch_norm": False, "connect_pre_res_blocks_up": False},
    "planes apart": {"block_concat": True, "filter_size_deepest": 5, "use_bias": False},
    "3D": {"conv_mode": "3D", "bottleneck_size": 4},
    "by image": {"norm_statistics": "image", "downsampling": "max_pooling"},
    "by image, 3D": {"norm_statistics": "image", "conv_mode": "3D", "residual": False},
    "exchange": {"exchange_levels": 2, "connect_pre_res_blocks_up": False, "norm_statistics": "image"},
    "exchange, 3D": {"exchange_levels": 1, "conv_mode": "3D", "downsampling": "max_pooling", "use_bias": False},
    "crossings": {"crossing_levels": (0, 1), "crossing_offset": 14.0, "norm_statistics": "image"},
    "crossings, 3D": {
        "crossing_levels": (1,),
        "crossing_offset": 17.0,
        "conv_mode": "3D",
        "exchange_levels": 2,
        "use_bias": False,
        "connect_pre_res_blocks_up": False,
    },
    "3D apart": {"conv_mode": "3D", "block_concat": True, "downsampling": "max_pooling"},
}


def config_of(options):
    return NetworkConfig(**SMALL | {"n_initial_filters": 3} | options)


def pair(options, engine, reference):
    """A sparse network and a reference with equal parameters and statistics."""
    config = config_of(options)
    sparse = build_network(NetworkConfig(**vars(config) | {"sparse": True}), PLANES, SHAPE, engine=engine).double()
    torch.manual_seed(1)
    randomize(sparse)
    other = reference(config).double()
    other.load_state_dict(sparse.state_dict())
    return config, sparse, other


def compare(config, sparse, other, engine, active, training):
    images = torch.randn(active.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    images = images.abs() * torch.from_numpy(active)
    got = sparse.train(training)(features_of(images, active, engine, kernel_sizes(config)))
    expected = other.train(training)(images)
    mask = torch.from_numpy(active)
    torch.testing.assert_close(got, expected.permute(0, 1, 3, 4, 2)[mask], **EXACT)
    slope = torch.randn(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (got * slope.permute(0, 1, 3, 4, 2)[mask]).sum().backward()
    (expected * slope * mask[:, :, None]).sum().backward()
    for (name, one), two in zip(sparse.named_parameters(), other.parameters(), strict=True):
        assert one.grad is not None, name
        torch.testing.assert_close(one.grad, two.grad, **EXACT, msg=lambda text, name=name: f"{name}: {text}")
    for (name, one), two in zip(sparse.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, two, **EXACT, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_equals_the_dense_network_on_full_images(engine, options, training):
    config, sparse, dense = pair(options, engine, lambda config: build_network(config, PLANES, SHAPE))
    compare(config, sparse, dense, engine, occupancy("full"), training)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("kind", OCCUPANCIES)
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_equals_the_masked_dense_network(engine, options, kind, training):
    active = occupancy(kind)

    def masked(config):
        return UResNet(config, masked_vocabulary(PLANES, config.conv_mode == "3D"))

    config, sparse, reference = pair(options, engine, masked)
    set_masks(torch.from_numpy(active), config.network_depth)
    compare(config, sparse, reference, engine, active, training)


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_checkpoints_load_into_each_other(options):
    config = config_of(options)
    dense = build_network(config, PLANES, SHAPE)
    sparse = build_network(NetworkConfig(**vars(config) | {"sparse": True}), PLANES, SHAPE)
    assert {name: tensor.shape for name, tensor in sparse.state_dict().items()} == {
        name: tensor.shape for name, tensor in dense.state_dict().items()
    }
    sparse.load_state_dict(dense.state_dict())
    dense.load_state_dict(sparse.state_dict())


def test_the_seed_decides_the_parameters_of_both_alike():
    networks = []
    for sparse in (True, False):
        torch.manual_seed(4)
        networks.append(build_network(NetworkConfig(**SMALL, sparse=sparse), PLANES, SHAPE))
    for one, other in zip(networks[0].parameters(), networks[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_repeats_are_bit_equal(engine):
    config = config_of({"downsampling": "max_pooling"})
    active = occupancy("random", shape=SHAPE)
    images = torch.rand(active.shape, generator=torch.Generator().manual_seed(2))
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        network = build_network(NetworkConfig(**vars(config) | {"sparse": True}), PLANES, SHAPE, engine=engine)
        logits = network(features_of(images, active, engine, kernel_sizes(config)))
        logits.square().sum().backward()
        results.append([logits, *(parameter.grad for parameter in network.parameters())])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("options", [{"share_weights": False}], ids=str)
def test_options_without_a_sparse_meaning_are_refused_by_name(options):
    with pytest.raises(UserError, match=r"^--no-share-weights: sparse networks .*--sparse"):
        build_network(NetworkConfig(**SMALL, sparse=True, **options), PLANES, SHAPE)


def test_a_plane_without_pixels_learns_nothing_from_it(engine):
    """Logits exist for active pixels alone, in the order of the pixels."""
    active = occupancy("empty plane")
    config = config_of({})
    network = build_network(NetworkConfig(**vars(config) | {"sparse": True}), PLANES, SHAPE, engine=engine)
    logits = network(features_of(torch.rand(active.shape), active, engine, kernel_sizes(config)))
    assert logits.shape == (int(np.sum(active)), 3)


def test_features_that_two_parts_take_must_be_settled_before():
    engine, active = ENGINES["cpu"](), occupancy("random", shape=SHAPE)
    network = build_network(config_of({"sparse": True, "downsampling": "max_pooling"}), PLANES, SHAPE, engine=engine)
    vocabulary = network.vocabulary
    features = features_of(torch.rand(active.shape), active, engine, ({3, 5}, {3}))
    pooled = vocabulary.pool(features)
    vocabulary.unpool(pooled)
    with pytest.raises(RuntimeError, match="must be settled"):
        vocabulary.unpool(pooled)
    with pytest.raises(RuntimeError, match="must be settled"):
        assert pooled.values is None
    settled = vocabulary.settle(vocabulary.pool(features))
    one, other = vocabulary.unpool(settled), vocabulary.unpool(settled)
    assert torch.equal(one.values, other.values)


# Depth 2, as the letters of their steps: Block, Pool, Unpool, Add.
@pytest.mark.parametrize(
    ("options", "chains"),
    [
        # A chain ends at what is taken across, at the deepest level, and before the scores.
        ({}, ["B", "BPB", "BPB", "BUABBUABB"]),
        ({"connect_pre_res_blocks_down": False}, ["BB", "PBB", "PB", "BUABBUABB"]),
        ({"residual": False, "norm_statistics": "image"}, ["B", "BPB", "BPB", "BUABBUABB"]),
        ({"block_concat": True}, ["B", "BPB", "BPBBBUABBUABB"]),
        ({"exchange_levels": 1}, ["B", "BPB", "BPB", "BUA", "BBUABB"]),
        ({"downsampling": "convolutional"}, ["B", "B", "B", "BUABBUABB"]),
        ({"upsampling": "convolutional"}, ["B", "BPB", "BPB", "AB", "ABB"]),
        ({"connections": "concat"}, ["B", "BPB", "BPB", "BU", "BBU", "BB"]),
        ({"batch_norm": False}, ["P", "P", "UA", "UA"]),
    ],
    ids=str,
)
def test_the_cpu_engine_computes_chains(monkeypatch, options, chains):
    """A network whose chains fell apart would compute the same, only slower."""
    engine, active = ENGINES["cpu"](), occupancy("random", shape=SHAPE)
    pooled = {"downsampling": "max_pooling", "upsampling": "interpolation", "sparse": True}
    config = config_of(pooled | options)
    network = build_network(config, PLANES, SHAPE, engine=engine)
    compute, seen = engine.chain, []

    def watched(values, steps, *where):
        seen.append("".join(type(step).__name__[0] for step in steps))
        return compute(values, steps, *where)

    monkeypatch.setattr(engine, "chain", watched)
    network(features_of(torch.rand(active.shape), active, engine, kernel_sizes(config)))
    assert seen == chains
