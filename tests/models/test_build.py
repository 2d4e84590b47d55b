import pytest
import torch

from cosmictagger.config.presets import PRESETS
from cosmictagger.config.sections import NetworkConfig
from cosmictagger.errors import UserError
from cosmictagger.models import build_network, check_shape, parameter_count
from cosmictagger.models.parameters import MOMENTUM, Normalization, set_momentum

HALF_RESOLUTION = (640, 1024)
FULL_RESOLUTION = (1280, 2048)

# Counts of 3 planes with shared weights. Those of a21 are published figures, at depth 5 and 6.
COUNTS = {
    ("a21", 5): 8_408_979,
    ("a21", 6): 8_510_547,
    ("uresnet", 6): 18_554_163,
    ("polaris", 7): 618_419,
    ("scc21", 6): 18_539_923,
    ("original", 5): 99_918_267,
    ("tagger", 7): 2_410_061,
}


@pytest.mark.parametrize(("preset", "depth"), COUNTS)
def test_parameters_of_the_presets(preset, depth):
    config = NetworkConfig(**PRESETS[preset] | {"network_depth": depth, "crossing_offset": 512.1})
    with torch.device("meta"):
        network = build_network(config, 3, HALF_RESOLUTION)
    assert parameter_count(network) == COUNTS[preset, depth]


def test_every_preset_is_counted():
    assert {preset for preset, _ in COUNTS} == set(PRESETS)


def test_frozen_parameters_are_not_counted():
    layer = torch.nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert parameter_count(layer) == 6


def test_the_seed_decides_the_parameters():
    def first_weight(seed):
        torch.manual_seed(seed)
        return build_network(NetworkConfig(network_depth=1), 3, (8, 8)).initial.conv.weight

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))


@pytest.mark.parametrize("depth", range(1, 8))
def test_shapes_that_fit(depth):
    check_shape(NetworkConfig(network_depth=depth), HALF_RESOLUTION)
    check_shape(NetworkConfig(network_depth=depth + 1), FULL_RESOLUTION)


@pytest.mark.parametrize(
    ("depth", "shape", "options", "message"),
    [
        (
            8,
            (640, 1024),
            {},
            "--network-depth 8: images of 640×1024 cannot be halved 8 times; "
            "take --network-depth 1, 2, 3, 4, 5, 6 or 7, or a --shape of multiples of 256.",
        ),
        (
            5,
            (640, 1002),
            {},
            "--network-depth 5: images of 640×1002 cannot be halved 5 times; "
            "take --network-depth 1, or a --shape of multiples of 32.",
        ),
        (
            2,
            (641, 1024),
            {},
            "--network-depth 2: images of 641×1024 cannot be halved 2 times; take a --shape of multiples of 4.",
        ),
        (
            3,
            (8, 8),
            {},
            "--network-depth 3: images of 8×8 end as a single pixel, too little for normalization; "
            "take --network-depth 1 or 2, or a larger --shape.",
        ),
        (
            4,
            (8, 8),
            {"batch_norm": False},
            "--network-depth 4: images of 8×8 cannot be halved 4 times; "
            "take --network-depth 1, 2 or 3, or a --shape of multiples of 16.",
        ),
    ],
)
def test_shapes_that_do_not_fit(depth, shape, options, message):
    config = NetworkConfig(network_depth=depth, **options)
    with pytest.raises(UserError) as refusal:
        check_shape(config, shape)
    assert str(refusal.value) == message
    with pytest.raises(UserError):
        build_network(config, 3, shape)


def test_a_single_deepest_pixel_will_do_without_batch_normalization():
    check_shape(NetworkConfig(network_depth=3, batch_norm=False), (8, 8))


@pytest.mark.parametrize("sparse", [False, True])
def test_the_momentum_of_the_running_statistics_reaches_every_normalization(sparse):
    network = build_network(NetworkConfig(network_depth=2, sparse=sparse), 3, (32, 64))
    norms = [module for module in network.modules() if isinstance(module, Normalization)]
    assert len(norms) > 10
    assert {norm.momentum for norm in norms} == {MOMENTUM}
    set_momentum(network, 0.02)
    assert {norm.momentum for norm in norms} == {0.02}
