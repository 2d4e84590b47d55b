import itertools
import random

import pytest
import torch
from torch.nn import functional as F

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.errors import UserError
from cosmictagger.models import build_network
from cosmictagger.models.parameters import EPSILON
from cosmictagger.models.uresnet import channels_of_levels

from .conftest import SMALL, random_images, randomize

# fp64 networks of a few layers: only the order of summation differs.
EXACT = {"rtol": 1e-9, "atol": 1e-10}

GRID = {
    "planes": [("2D", True), ("2D", False), ("3D", True)],  # conv_mode, share_weights; 3D shares by definition
    "nplanes": [1, 2, 3],
    "residual": [True, False],
    "block_concat": [True, False],
    "bottleneck_size": [-1, 3],
    "filter_size_deepest": [1, 5],
    "filter_size_initial": [1, 3, 5],
    "connections": ["sum", "concat", "none"],
    "connect_pre_res_blocks_down": [True, False],
    "connect_pre_res_blocks_up": [True, False],
    "exchange_levels": [0, 1],
    "doubled_levels": [0, 1],
    "growth_rate": ["linear", "multiplicative"],
    "downsampling": ["convolutional", "max_pooling"],
    "upsampling": ["convolutional", "interpolation"],
    "network_depth": [1, 2],
    "res_blocks_per_layer": [0, 1, 2],
    "res_blocks_deepest_layer": [0, 1],
    "res_blocks_final": [0, 1],
    "batch_norm": [True, False],
    "norm_statistics": ["batch", "image"],
    "use_bias": [True, False],
    "data_format": ["channels_last", "channels_first"],
}
GRID_SIZE = 128


def grid():
    """Draw combinations of the grid; the next test shows that every pair of values is among them."""
    draw = random.Random(1)
    return [{key: draw.choice(values) for key, values in GRID.items()} for _ in range(GRID_SIZE)]


def test_the_grid_holds_every_pair_of_values():
    for one, other in itertools.combinations(GRID, 2):
        pairs = {(combination[one], combination[other]) for combination in grid()}
        assert len(pairs) == len(GRID[one]) * len(GRID[other]), (one, other)


@pytest.mark.parametrize("combination", grid(), ids=itertools.count())
def test_every_combination_of_options_trains(combination):
    options = dict(combination)
    options["conv_mode"], options["share_weights"] = options.pop("planes")
    nplanes, data_format = options.pop("nplanes"), options.pop("data_format")
    torch.manual_seed(3)
    config = NetworkConfig(n_initial_filters=2, **options)
    network = build_network(config, nplanes, (8, 12), data_format)
    randomize(network)
    logits = network(torch.randn(2, nplanes, 8, 12))
    assert logits.shape == (2, nplanes, 3, 8, 12)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


GRADIENT_CASES = {
    "2D": {"bottleneck_size": 3, "downsampling": "max_pooling", "upsampling": "interpolation"},
    "2D concat": {"connections": "concat", "residual": False},
    "2D unshared": {"share_weights": False, "connections": "concat"},
    "2D by image": {"norm_statistics": "image", "downsampling": "max_pooling"},
    "2D exchange": {"exchange_levels": 1, "norm_statistics": "image"},
    "2D exchange unshared": {"exchange_levels": 1, "share_weights": False, "connect_pre_res_blocks_up": False},
    "2D crossings": {"nplanes": 3, "crossing_levels": (0,), "crossing_offset": 1.0},
    "2D crossings unshared": {"nplanes": 3, "crossing_levels": (0,), "crossing_offset": 1.0, "share_weights": False},
    "2D without batch norm": {"batch_norm": False, "connect_pre_res_blocks_up": False},
    "3D": {"conv_mode": "3D", "connect_pre_res_blocks_down": False},
}


@pytest.mark.parametrize("options", GRADIENT_CASES.values(), ids=GRADIENT_CASES)
def test_gradients_equal_finite_differences(small_network, options):
    options = {"nplanes": 2} | options
    network = small_network(network_depth=1, **options)
    names, parameters = zip(*network.named_parameters(), strict=True)

    def run(images, *values):
        return torch.func.functional_call(network, dict(zip(names, values, strict=True)), (images,))

    images = random_images(1, options["nplanes"], (4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(run, (images, *parameters), fast_mode=True)


@pytest.mark.parametrize("options", [{}, {"share_weights": False}, {"conv_mode": "3D"}], ids=str)
def test_by_image_an_image_is_scored_alike_in_any_batch_and_in_training_and_evaluation(small_network, options):
    network = small_network(norm_statistics="image", **options)
    images = random_images(3)
    together = network.train()(images)
    alone = torch.cat([network.eval()(image[None]) for image in images])
    torch.testing.assert_close(alone, together, **EXACT)
    by_batch = small_network(**options)
    assert not torch.allclose(by_batch.train()(images), torch.cat([by_batch(image[None]) for image in images]))


PLANES_APART = [
    {"share_weights": True},
    {"conv_mode": "3D"},
    {"share_weights": True, "bottleneck_size": 3, "connections": "concat"},
]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("options", PLANES_APART, ids=str)
def test_permuted_planes_give_permuted_outputs(small_network, options, training):
    network = small_network(block_concat=True, **options).train(training)
    images, order = random_images(), [2, 0, 1]
    torch.testing.assert_close(network(images[:, order]), network(images)[:, order], **EXACT)


@pytest.mark.parametrize("options", [*PLANES_APART, {"share_weights": False}], ids=str)
def test_planes_stay_apart_with_block_concat(small_network, options):
    network = small_network(block_concat=True, **options).eval()
    images = random_images()
    changed = images.clone()
    changed[:, 0] += 1
    difference = (network(changed) - network(images)).abs().amax(dim=(0, 2, 3, 4))
    assert difference[0] > 1e-3
    assert difference[1:].max() == 0


@pytest.mark.parametrize(
    "options", [{}, {"bottleneck_size": 3}, {"share_weights": False}, {"conv_mode": "3D"}, {"residual": False}], ids=str
)
def test_the_deepest_level_mixes_planes(small_network, options):
    network = small_network(block_concat=False, **{"res_blocks_deepest_layer": 2} | options).eval()
    images = random_images()
    changed = images.clone()
    changed[:, 0] += 1
    difference = (network(changed) - network(images)).abs().amax(dim=(0, 2, 3, 4))
    assert difference.min() > 1e-6


@pytest.mark.parametrize("options", [*PLANES_APART, {"share_weights": False}], ids=str)
def test_exchange_reaches_the_other_planes_at_the_same_tick_alone(small_network, options):
    """With planes apart otherwise, in evaluation by running statistics: a pixel of plane 0 tells planes 1 and 2 its ticks."""
    plain = {"res_blocks_per_layer": 0, "res_blocks_final": 0, "res_blocks_deepest_layer": 0, "filter_size_initial": 1}
    network = small_network(**options | plain | {"block_concat": True, "exchange_levels": 2}).eval()
    images = random_images(1, shape=(32, 16))
    changed = images.clone()
    changed[0, 0, 13, 5] += 100
    ticks = (network(changed) - network(images)).abs().amax(dim=(2, 4))[0]
    reach = 4 + 2  # of a kernel of 3 ticks at level 1, then at level 0, around the four pixels that share level 2
    assert ticks[1:, 13].min() > 0
    assert ticks[1:, : 12 - reach].max() == ticks[1:, 16 + reach :].max() == 0


@pytest.mark.parametrize("nplanes", [1, 2])
def test_wires_of_fewer_planes_than_three_do_not_cross(nplanes):
    config = NetworkConfig(**SMALL, crossing_levels=(1,))
    with pytest.raises(UserError, match=f"--crossing-levels: is for images of 3 planes, these have {nplanes}."):
        build_network(config, nplanes, (16, 16))


def test_crossings_tell_a_pixel_of_others_at_its_tick(small_network):
    """Charge at wires 3 and 8 of planes 0 and 2 is at a crossing with wire 9 of plane 1, give or take a wire: 3 + 9 - 8 = 4."""
    plain = {"res_blocks_per_layer": 0, "res_blocks_final": 0, "res_blocks_deepest_layer": 0, "filter_size_initial": 1}
    crossing = {"crossing_levels": (0,), "crossing_offset": 4.0, "connections": "sum", "network_depth": 1}
    network = small_network(
        **plain | crossing | {"block_concat": True, "norm_statistics": "image", "batch_norm": False}
    )
    for name, parameter in network.named_parameters():
        if "levels.0.upsample" in name:
            torch.nn.init.zeros_(parameter)
        elif "crossing" in name or "initial" in name:
            parameter.data.abs_()
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
    images = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    images[0, 0, 5, 3] = images[0, 2, 5, 8] = 1
    before = network(images)
    images[0, 1, 5, 9] = 1
    changed = (network(images) - before).abs().amax(dim=2)[0]
    wires = [changed[plane, 5].gt(1e-9).nonzero().flatten().tolist() for plane in range(3)]
    assert wires == [[2, 3, 4], [9], [7, 8, 9]]
    assert changed[:, :5].max() == changed[:, 6:].max() == 0


def test_new_exchange_changes_nothing(small_network):
    torch.manual_seed(0)
    with_it = build_network(NetworkConfig(**SMALL, exchange_levels=2), 3, (16, 16)).double().eval()
    without = small_network().eval()
    without.load_state_dict({name: t for name, t in with_it.state_dict().items() if "exchange" not in name})
    assert torch.equal(with_it(random_images()), without(random_images()))


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "options", [{}, {"downsampling": "max_pooling", "upsampling": "interpolation", "connections": "concat"}], ids=str
)
def test_3d_equals_2d_with_planes_apart(small_network, options, training):
    flat = small_network(block_concat=True, **options).train(training)
    volumetric = small_network(block_concat=True, conv_mode="3D", seed=5, **options).train(training)
    state = flat.state_dict()
    volumetric.load_state_dict(
        {name: tensor.unsqueeze(2) if tensor.dim() == 4 else tensor for name, tensor in state.items()}
    )
    images = random_images()
    torch.testing.assert_close(volumetric(images), flat(images), **EXACT)


@pytest.mark.parametrize("connections", ["sum", "concat"])
@pytest.mark.parametrize("upsampling", ["convolutional", "interpolation"])
def test_unshared_planes_are_networks_of_their_own(small_network, connections, upsampling):
    options = {"block_concat": True, "connections": connections, "upsampling": upsampling}
    together = small_network(share_weights=False, **options)
    images = random_images()
    logits = together(images)
    for plane in range(3):
        alone = small_network(nplanes=1, **options)
        alone.load_state_dict({name: tensor.chunk(3)[plane] for name, tensor in together.state_dict().items()})
        torch.testing.assert_close(logits[:, [plane]], alone(images[:, [plane]]), **EXACT)


@pytest.mark.parametrize("connections", ["sum", "concat"])
def test_unshared_planes_with_equal_weights_equal_shared_ones(small_network, connections):
    shared = small_network(connections=connections).eval()
    unshared = small_network(connections=connections, share_weights=False).eval()
    unshared.load_state_dict(
        {
            name: tensor if name.startswith("deepest.") else torch.cat([tensor] * 3)
            for name, tensor in shared.state_dict().items()
        }
    )
    images = random_images()
    torch.testing.assert_close(unshared(images), shared(images), **EXACT)


def test_evaluated_images_do_not_depend_on_their_batch(small_network):
    network = small_network().eval()
    images = random_images(3)
    alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(network(images), alone, **EXACT)


def test_training_updates_running_statistics_and_evaluation_does_not(small_network):
    network = small_network()
    before = network.initial.norm.running_mean.clone()
    network.eval()(random_images())
    assert torch.equal(network.initial.norm.running_mean, before)
    network.train()(random_images())
    assert not torch.equal(network.initial.norm.running_mean, before)


@pytest.mark.parametrize("pre_down", [True, False])
@pytest.mark.parametrize("pre_up", [True, False])
@pytest.mark.parametrize("connections", ["sum", "concat", "none"])
def test_the_network_equals_its_definition_written_out(small_network, connections, pre_down, pre_up):
    network = small_network(
        network_depth=1,
        residual=False,
        bottleneck_size=3,
        filter_size_deepest=5,
        downsampling="max_pooling",
        upsampling="interpolation",
        connections=connections,
        connect_pre_res_blocks_down=pre_down,
        connect_pre_res_blocks_up=pre_up,
    ).eval()
    state, images = network.state_dict(), random_images(1)

    def block(x, name):
        weight, bias = state[f"{name}.conv.weight"], state[f"{name}.conv.bias"]
        mean, var, gamma, beta = (state[f"{name}.norm.{key}"] for key in NORM_KEYS)
        x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        x = (x - column(mean)) / column(var + EPSILON).sqrt() * column(gamma) + column(beta)
        return x.clamp(min=0)

    def join(x, skipped):
        if connections == "concat":
            return block(torch.cat((x, skipped), dim=1), "levels.0.connect")
        return x + skipped if connections == "sum" else x

    before = block(images[0, :, None], "initial")
    after = block(before, "levels.0.down.0")
    skipped = before if pre_down else after
    x = block(F.max_pool2d(after, 2), "levels.0.downsample")
    x = x.reshape(1, -1, 8, 8)
    x = block(block(block(x, "deepest.enter"), "deepest.blocks.0"), "deepest.leave")
    x = x.reshape(3, -1, 8, 8).repeat_interleave(2, dim=-1).repeat_interleave(2, dim=-2)
    x = block(x, "levels.0.upsample")
    x = block(join(x, skipped), "levels.0.up.0") if pre_up else join(block(x, "levels.0.up.0"), skipped)
    x = F.conv2d(block(x, "final.0"), state["classify.weight"], state["classify.bias"])
    torch.testing.assert_close(network(images), x[None], **EXACT)


NORM_KEYS = ("running_mean", "running_var", "weight", "bias")


def column(vector):
    return vector[:, None, None]


def test_an_image_moved_by_a_deepest_pixel_gives_moved_logits(small_network):
    network = small_network(downsampling="max_pooling", upsampling="interpolation").eval()
    step, margin = 4, 40  # 2^depth; the margin is wider than half the receptive field, so that no border is seen
    images = random_images(1, 3, (2 * margin + 16, 2 * margin + 16))
    moved = images.roll((step, step), dims=(2, 3))
    inner = slice(margin, margin + 12)
    inner_moved = slice(margin + step, margin + 12 + step)
    torch.testing.assert_close(
        network(moved)[..., inner_moved, inner_moved], network(images)[..., inner, inner], **EXACT
    )


@pytest.mark.parametrize("n_initial_filters", [2, 3])
def test_channels_of_levels(n_initial_filters):
    common = {"n_initial_filters": n_initial_filters, "network_depth": 3}
    factors = {"linear": [1, 2, 3, 4], "multiplicative": [1, 2, 4, 8]}
    for growth, expected in factors.items():
        channels = channels_of_levels(NetworkConfig(growth_rate=growth, **common))
        assert channels == [n_initial_filters * factor for factor in expected]


def test_parameter_names_are_stable(small_network):
    network = small_network(network_depth=1, residual=True, connections="concat", bottleneck_size=3)
    assert [name.removesuffix(".weight") for name in network.state_dict() if name.endswith(".weight")] == [
        "initial.conv",
        "initial.norm",
        "levels.0.down.0.conv1",
        "levels.0.down.0.norm1",
        "levels.0.down.0.conv2",
        "levels.0.down.0.norm2",
        "levels.0.downsample.conv",
        "levels.0.downsample.norm",
        "levels.0.upsample.conv",
        "levels.0.upsample.norm",
        "levels.0.connect.conv",
        "levels.0.connect.norm",
        "levels.0.up.0.conv1",
        "levels.0.up.0.norm1",
        "levels.0.up.0.conv2",
        "levels.0.up.0.norm2",
        "deepest.enter.conv",
        "deepest.enter.norm",
        "deepest.blocks.0.conv1",
        "deepest.blocks.0.norm1",
        "deepest.blocks.0.conv2",
        "deepest.blocks.0.norm2",
        "deepest.leave.conv",
        "deepest.leave.norm",
        "final.0.conv1",
        "final.0.norm1",
        "final.0.conv2",
        "final.0.norm2",
        "classify",
    ]
    plain = small_network(network_depth=2, residual=False, connections="sum", exchange_levels=1)
    assert [name for name in plain.state_dict() if "exchange" in name] == [
        f"levels.1.exchange.{part}.{kind}" for part in ("mix", "spread") for kind in ("weight", "bias")
    ]
    told = small_network(network_depth=2, crossing_levels=(0,), crossing_offset=8.0, use_bias=False)
    assert [name for name in told.state_dict() if "crossing" in name] == [
        f"levels.0.crossing.{part}"
        for part in (
            "mix.conv.weight",
            *(f"mix.norm.{n}" for n in ("weight", "bias", "running_mean", "running_var")),
            "spread.weight",
        )
    ]
    assert "levels.0.down.0.conv.weight" in plain.state_dict()
    assert not any(name.startswith(("levels.0.connect", "deepest.enter")) for name in plain.state_dict())


def test_a_new_network_without_normalization_keeps_the_scale():
    torch.manual_seed(0)
    options = SMALL | {"n_initial_filters": 8, "network_depth": 4, "res_blocks_per_layer": 8, "batch_norm": False}
    network = build_network(NetworkConfig(**options), 3, (32, 32))
    assert 0.1 < network(torch.randn(1, 3, 32, 32)).std().item() < 100


def test_compiles_into_one_graph(small_network):
    network = small_network(bottleneck_size=3)
    images = random_images()
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), network(images), **EXACT)
