"""The contract of every engine, in fp64: each operation forward and both gradients against dense operations."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cosmictagger.models.crossings import crossing_maximum
from cosmictagger.models.parameters import Layout, Normalization
from cosmictagger.models.sparse.engine import Add, Block, Layer, Pool, Unpool

from .conftest import ENGINES, OCCUPANCIES, occupancy, tables_of

# fp64: only the order of summation differs.
EXACT = {"rtol": 1e-10, "atol": 1e-11}
# Sums of up to a few thousand products of float32, relative to the largest value.
FLOAT32 = 5e-6
SIZES = (frozenset({3, 5}), frozenset({3}))
CHANNELS = [(1, 8), (3, 5), (8, 8), (16, 24), (33, 17), (70, 3), (24, 32), (32, 40), (40, 48), (48, 12)]


@pytest.fixture(params=OCCUPANCIES)
def active(request):
    return torch.from_numpy(occupancy(request.param))


@pytest.fixture
def sites(engine, active):
    return engine.prepare(tables_of(active.numpy(), SIZES), torch.device("cpu"))


def halved(active):
    return (
        F.max_pool2d(active.flatten(0, 1).double(), 2).view(*active.shape[:2], *(s // 2 for s in active.shape[2:])) > 0
    )


def dense(values, active):
    """Values at the sites → [N × P, C, H, W], zero elsewhere."""
    images = values.new_zeros(*active.shape, values.shape[1])
    images = images.index_put(tuple(active.nonzero().t()), values)
    return images.flatten(0, 1).permute(0, 3, 1, 2)


def at_sites(images, active):
    return images.permute(0, 2, 3, 1).reshape(*active.shape, -1)[active]


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def compare(result, expected, inputs):
    """The same values, and the same gradients of a random projection by every input."""
    torch.testing.assert_close(result, expected, **EXACT)
    slope = torch.randn(result.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    # An input that nothing depends on (no sites) has a zero gradient.
    expected_slopes = torch.autograd.grad(
        (expected * slope).sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    for got, wanted in zip(torch.autograd.grad((result * slope).sum(), inputs), expected_slopes, strict=True):
        torch.testing.assert_close(got, wanted, **EXACT)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("inputs", "outputs"), CHANNELS)
def test_convolution(engine, active, sites, inputs, outputs, size, bias):
    values, weight = random(int(active.sum()), inputs), random(outputs, inputs, size, size, seed=1)
    offset = random(outputs, seed=2) if bias else None
    result = (
        engine.pointwise(values, weight, offset) if size == 1 else engine.convolve(values, weight, offset, sites, 0)
    )
    expected = at_sites(F.conv2d(dense(values, active), weight, offset, padding=size // 2), active)
    compare(result, expected, [values, weight, offset][: 2 + bias])


@pytest.mark.parametrize("size", [63, 65])
def test_a_kernel_larger_than_a_word_has_bits(engine, size):
    active = torch.from_numpy(occupancy("random", shape=(8, 128)))
    sites = engine.prepare(tables_of(active.numpy(), (frozenset({size}), frozenset())), torch.device("cpu"))
    values, weight = random(int(active.sum()), 2), random(1, 2, size, size, seed=1)
    expected = at_sites(F.conv2d(dense(values, active), weight, padding=size // 2), active)
    compare(engine.convolve(values, weight, None, sites, 0), expected, [values, weight])


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [(8, 8), (2, 5), (6, 7), (7, 8), (1, 8), (16, 3), (18, 8), (8, 9), (24, 24), (10, 37), (40, 56), (7, 24), (6, 66)],
)
def test_float32_is_float64_but_for_rounding(engine, active, sites, inputs, outputs, size):
    """Few channels share vectors in ways that depend on the size of a number."""
    exact = [random(int(active.sum()), inputs), random(outputs, inputs, size, size, seed=1), random(outputs, seed=2)]
    rounded = [tensor.detach().float().requires_grad_() for tensor in exact]

    def convolve(values, weight, bias):
        if size == 1:
            return engine.pointwise(values, weight, bias)
        return engine.convolve(values, weight, bias, sites, 0)

    result, expected = convolve(*rounded), convolve(*exact)
    slope = torch.randn(result.shape, generator=torch.Generator().manual_seed(9))
    slopes = torch.autograd.grad((result * slope).sum(), rounded, allow_unused=True, materialize_grads=True)
    wanted = torch.autograd.grad((expected * slope.double()).sum(), exact, allow_unused=True, materialize_grads=True)
    for single, double in zip((result, *slopes), (expected, *wanted), strict=True):
        assert single.dtype == torch.float32
        largest = max([1.0, *double.detach().abs().flatten().tolist()])
        torch.testing.assert_close(single.double(), double, rtol=FLOAT32, atol=FLOAT32 * largest)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), CHANNELS)
def test_reduction(engine, active, sites, inputs, outputs, bias):
    values, weight = random(int(active.sum()), inputs), random(outputs, inputs, 2, 2, seed=1)
    offset = random(outputs, seed=2) if bias else None
    expected = at_sites(F.conv2d(dense(values, active), weight, offset, stride=2), halved(active))
    compare(engine.reduce(values, weight, offset, sites, 0), expected, [values, weight, offset][: 2 + bias])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), CHANNELS)
def test_expansion(engine, active, sites, inputs, outputs, bias):
    below = halved(active)
    values, weight = random(int(below.sum()), inputs), random(inputs, outputs, 2, 2, seed=1)
    offset = random(outputs, seed=2) if bias else None
    expected = at_sites(F.conv_transpose2d(dense(values, below), weight, offset, stride=2), active)
    compare(engine.expand(values, weight, offset, sites, 0), expected, [values, weight, offset][: 2 + bias])


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_pooling_of_rectified_values(engine, active, sites, channels):
    raw = random(int(active.sum()), channels)
    values = torch.relu(raw)
    expected = at_sites(F.max_pool2d(dense(values, active), 2), halved(active))
    compare(engine.pool(values, sites, 0), expected, [raw])


@pytest.mark.parametrize("channels", [1, 8, 11])
def test_pooling_takes_active_children_alone(engine, channels):
    active = occupancy("single site")
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values = random(1, channels).detach()
    assert torch.equal(engine.pool(values, sites, 0), values)


@pytest.mark.parametrize("channels", [1, 8, 11])
def test_of_equal_children_the_first_takes_the_gradient(engine, channels):
    active = np.zeros((1, 1, 4, 4), bool)
    active[0, 0, :2, :2] = True
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values = torch.tensor([[1.0], [2.0], [2.0], [0.0]]).repeat(1, channels).requires_grad_()
    engine.pool(values, sites, 0).sum().backward()
    assert values.grad.tolist() == [[number] * channels for number in (0, 1, 0, 0)]


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_the_maximum_over_the_wires_of_a_tick(engine, active, sites, channels):
    raw = random(int(active.sum()), channels)
    values = torch.relu(raw)
    expected = dense(values, active).amax(dim=3).transpose(1, 2).flatten(0, 1)
    compare(engine.tick_maximum(values, sites, 0), expected, [raw])


def test_the_maximum_over_a_tick_is_at_least_0_and_equal_sites_share_its_gradient(engine):
    active = np.zeros((1, 1, 4, 4), bool)
    active[0, 0, 1, :3] = active[0, 0, 2, 0] = True
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values = torch.tensor([[2.0], [1.0], [2.0], [-3.0]], requires_grad=True)
    result = engine.tick_maximum(values, sites, 0)
    result.sum().backward()
    assert result.tolist() == [[0], [2], [0], [0]]
    assert values.grad.tolist() == [[0.5], [0], [0.5], [0]]


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_adding_to_the_wires_of_a_tick(engine, active, sites, channels):
    images, planes, height, width = active.shape
    values, rows = random(int(active.sum()), channels), random(images * planes * height, channels, seed=1)
    spread = rows.view(images * planes, height, 1, channels).expand(-1, -1, width, -1).permute(0, 3, 1, 2)
    result = engine.add_to_ticks(values, rows, sites, 0)
    compare(result, at_sites(dense(values, active) + spread, active), [values, rows])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("offset", [-40, 5, 16, 70])
@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_crossings(engine, active, sites, channels, offset, ties):
    raw = random(int(active.sum()), channels)
    if ties:
        raw = raw.detach().mul(2).round().requires_grad_()
    values = torch.relu(raw)
    images, planes, _, _ = active.shape
    views = dense(values, active).unflatten(0, (images, planes))
    expected = at_sites(crossing_maximum(views, offset).flatten(0, 1), active)
    compare(engine.crossing_maximum(values, sites, 0, offset), expected, [raw])


def test_slopes_of_many_wires_add_up_in_16_bits(engine):
    """bfloat16 cannot count beyond 256 in ones."""
    active = np.ones((1, 1, 4, 600), bool)
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values = torch.zeros(2400, 2, dtype=torch.bfloat16)
    rows = torch.zeros(4, 2, dtype=torch.bfloat16, requires_grad=True)
    engine.add_to_ticks(values, rows, sites, 0).backward(torch.ones_like(values))
    assert rows.grad.tolist() == [[600.0, 600.0]] * 4


@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_not_a_number_stays_in_the_maximum(engine, place):
    active = np.zeros((1, 1, 4, 4), bool)
    active[0, 0, 1, :3] = True
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values = torch.ones(3, 1)
    values[place] = torch.nan
    assert engine.tick_maximum(values, sites, 0).isnan().tolist() == [[False], [True], [False], [False]]


@pytest.mark.parametrize("channels", [1, 5, 16, 40])
def test_unpooling(engine, active, sites, channels):
    below = halved(active)
    values = random(int(below.sum()), channels)
    expected = at_sites(F.interpolate(dense(values, below), scale_factor=2.0), active)
    compare(engine.unpool(values, sites, 0), expected, [values])


def norm_of(channels):
    norm = Normalization(Layout(nplanes=1, volumetric=False, shared=True), channels).double()
    with torch.no_grad():
        for seed, tensor in enumerate(norm.state_dict().values()):
            tensor.copy_(
                random(channels, seed=seed).exp() if tensor is norm.running_var else random(channels, seed=seed)
            )
        norm.running_var.abs_().add_(0.1)
    norm.momentum = 0.25
    return norm


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("with_shortcut", [True, False])
@pytest.mark.parametrize(("sites_", "channels"), list(itertools.product([0, 1, 2, 3, 300], [1, 5, 16, 40])))
def test_normalization(engine, sites_, channels, with_shortcut, training):
    values, shortcut = random(sites_, channels), random(sites_, channels, seed=1) if with_shortcut else None
    norm, reference = norm_of(channels), norm_of(channels)
    result = engine.activate(values, shortcut, norm, training)
    expected = F.batch_norm(
        values,
        reference.running_mean,
        reference.running_var,
        norm.weight,
        norm.bias,
        training=training and sites_ > 1,
        momentum=0.25,
        eps=1e-4,
    )
    expected = torch.relu(expected if shortcut is None else expected + shortcut)
    compare(result, expected, [values, norm.weight, norm.bias] + [shortcut] * with_shortcut)
    torch.testing.assert_close(norm.running_mean, reference.running_mean, **EXACT)
    torch.testing.assert_close(norm.running_var, reference.running_var, **EXACT)


@pytest.mark.parametrize("with_shortcut", [True, False])
@pytest.mark.parametrize("sizes", [[1], [2], [300], [150, 1, 70]], ids=str)
@pytest.mark.parametrize("channels", [1, 5, 16])
def test_normalization_of_parts(engine, sizes, channels, with_shortcut):
    sites_ = sum(sizes)
    values, shortcut = random(sites_, channels), random(sites_, channels, seed=1) if with_shortcut else None
    norm = Normalization(Layout(nplanes=1, volumetric=False, shared=True), channels, "image").double()
    with torch.no_grad():
        norm.weight.copy_(random(channels, seed=2))
        norm.bias.copy_(random(channels, seed=3))
    result = engine.activate_apart(values, shortcut, norm, sizes)
    parts = []
    for part in torch.split(values, sizes):
        variance, mean = torch.var_mean(part, dim=0, correction=0)
        parts.append((part - mean) / (variance + 1e-4).sqrt() * norm.weight + norm.bias)
    expected = torch.cat(parts)
    expected = torch.relu(expected if shortcut is None else expected + shortcut)
    compare(result, expected, [values, norm.weight, norm.bias] + [shortcut] * with_shortcut)


def block(*layers, residual=False):
    """Layers as (input channels, output channels, kernel size)."""
    return layers, residual


# The level that a chain begins at, its channels there, and its steps.
CHAINS = {
    "a layer": (0, 3, [block((3, 8, 1))]),
    "plain": (0, 8, [block((8, 8, 3)), block((8, 5, 1)), block((5, 5, 3))]),
    "residual": (0, 5, [block((5, 5, 3), (5, 5, 1), residual=True), block((5, 5, 3), (5, 5, 3), residual=True)]),
    "mixed": (0, 8, [block((8, 8, 3), residual=True), block((8, 8, 5)), block((8, 8, 3), (8, 8, 3), residual=True)]),
    "down": (0, 3, ["pool", block((3, 8, 1)), block((8, 8, 3)), block((8, 8, 3))]),
    "up": (1, 8, [block((8, 3, 1)), "unpool", "add", block((3, 3, 3), (3, 3, 3), residual=True)]),
    "down and up": (0, 3, [block((3, 3, 3)), "pool", block((3, 3, 3)), "unpool", block((3, 4, 1))]),
    "copies": (1, 4, ["add", "unpool", "add", "add"]),
    "sums": (0, 4, ["add", block((4, 4, 3)), "add", "add", block((4, 3, 3)), "add"]),
}


def chain_of(steps, level, active, apart, bias):
    """Two lists of the same steps, whose normalizations have statistics of their own, and the tensors that they take."""
    chains, tensors, channels = ([], []), [], None
    for number, step in enumerate(steps):
        if step == "pool":
            level += 1
            pair = [Pool()] * 2
        elif step == "unpool":
            level -= 1
            pair = [Unpool()] * 2
        elif step == "add":
            sites = int((halved(active) if level else active).sum())
            tensors.append(random(sites, channels or 4, seed=number))
            pair = [Add(tensors[-1])] * 2
        else:
            layers, residual = step
            made = ([], [])
            for inputs, channels, size in layers:
                weight = random(channels, inputs, size, size, seed=number + size)
                offset = random(channels, seed=number) if bias else None
                norms = norm_of(channels), norm_of(channels)
                norms[1].weight, norms[1].bias = norms[0].weight, norms[0].bias
                tensors += [weight, norms[0].weight, norms[0].bias, *([offset] if bias else [])]
                for layers_made, norm in zip(made, norms, strict=True):
                    norm.of_image = apart
                    if apart:
                        norm.running_mean = norm.running_var = None
                    layers_made.append(Layer(weight, offset, norm))
            pair = [Block(tuple(layers_made), residual) for layers_made in made]
        for chain, one in zip(chains, pair, strict=True):
            chain.append(one)
    return *chains, tensors


def in_turn(values, steps, sites, level, training):
    """The steps of a chain, one after another by the engine of plain PyTorch operations."""
    engine = ENGINES["torch"]()
    for step in steps:
        if isinstance(step, Pool):
            values, level = engine.pool(values, sites, level), level + 1
        elif isinstance(step, Unpool):
            values, level = engine.unpool(values, sites, level - 1), level - 1
        elif isinstance(step, Add):
            values = values + step.values
        else:
            before = values
            for layer in step.layers:
                values = engine.convolve(values, layer.weight, layer.bias, sites, level)
                shortcut = before if step.residual and layer is step.layers[-1] else None
                if layer.norm.of_image:
                    parts = [size for size in sites.image_sizes[level] if size]
                    values = engine.activate_apart(values, shortcut, layer.norm, parts)
                else:
                    values = engine.activate(values, shortcut, layer.norm, training)
    return values


@pytest.mark.parametrize("kind", [kind for kind in OCCUPANCIES if kind != "empty"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_is_its_steps_in_turn(kind, name, bias, apart, training):
    engine, active = ENGINES["cpu"](), torch.from_numpy(occupancy(kind))
    level, channels, steps = CHAINS[name]
    sites, plain = (
        one.prepare(tables_of(active.numpy(), SIZES), torch.device("cpu")) for one in (engine, ENGINES["torch"]())
    )
    values = random(int((halved(active) if level else active).sum()), channels)
    chain, again, tensors = chain_of(steps, level, active, apart, bias)
    layers = [layer for step in (*chain, *again) if isinstance(step, Block) for layer in step.layers]
    for layer in layers:
        layer.norm.train(training)
    result, expected = engine.chain(values, chain, sites, level), in_turn(values, again, plain, level, training)
    compare(result, expected, [values, *tensors])
    for layer, reference in zip(layers[: len(layers) // 2], layers[len(layers) // 2 :], strict=True):
        if not apart:
            torch.testing.assert_close(layer.norm.running_var, reference.norm.running_var, **EXACT)
    # In the first chain of a network nobody asks for the gradient of its values; the others are the same.
    for layer in layers:
        layer.norm.eval()
    with_values, without = (engine.chain(data, chain, sites, level) for data in (values, values.detach()))
    expected_slopes = torch.autograd.grad(with_values.sum(), tensors)
    for got, wanted in zip(torch.autograd.grad(without.sum(), tensors), expected_slopes, strict=True):
        assert torch.equal(got, wanted)
    with torch.no_grad():
        assert torch.equal(engine.chain(values, chain, sites, level), with_values)


@pytest.mark.parametrize("with_shortcut", [True, False])
def test_rectification_without_normalization(engine, with_shortcut):
    values, shortcut = random(50, 5), random(50, 5, seed=1) if with_shortcut else None
    expected = torch.relu(values if shortcut is None else values + shortcut)
    compare(engine.activate(values, shortcut, None, True), expected, [values] + [shortcut] * with_shortcut)


def test_float32_is_as_exact_as_it_can_be(engine):
    active = torch.from_numpy(occupancy("random"))
    sites = engine.prepare(tables_of(active.numpy(), SIZES), torch.device("cpu"))
    values, weight = random(int(active.sum()), 16), random(24, 16, 3, 3, seed=1)
    exact = engine.convolve(values, weight, None, sites, 0)
    single = engine.convolve(values.float(), weight.float(), None, sites, 0)
    assert single.dtype == torch.float32
    # Sums of 144 products of order one, each rounded to 24 bits.
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-4)


def test_values_that_are_not_contiguous(engine):
    active = torch.from_numpy(occupancy("random"))
    sites = engine.prepare(tables_of(active.numpy(), SIZES), torch.device("cpu"))
    values, weight = random(16, int(active.sum())), random(3, 3, 24, 16, seed=1)
    result = engine.convolve(values.t(), weight.permute(2, 3, 0, 1), None, sites, 0)
    expected = engine.convolve(values.t().contiguous(), weight.permute(2, 3, 0, 1).contiguous(), None, sites, 0)
    compare(result, expected, [values, weight])


def test_results_do_not_depend_on_the_threads(engine):
    if engine.name != "cpu":
        pytest.skip("matrix products are PyTorch's own")
    active = occupancy("random", shape=(64, 128))
    sites = engine.prepare(tables_of(active, SIZES), torch.device("cpu"))
    values, weight, norm = random(int(active.sum()), 16), random(24, 16, 3, 3, seed=1), norm_of(24)
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        result = engine.activate(engine.convolve(values, weight, None, sites, 0), None, norm, True)
        result = engine.add_to_ticks(result, engine.tick_maximum(result, sites, 0), sites, 0)
        result = result + engine.crossing_maximum(torch.relu(result), sites, 0, 16)
        results.append([result, *torch.autograd.grad(result.square().sum(), [values, weight, norm.weight])])
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


def test_a_normalization_of_another_type_is_refused(engine):
    if engine.name != "cpu":
        pytest.skip("PyTorch converts, or refuses by itself")
    with pytest.raises(TypeError, match=r"float64 cannot take values of torch\.float32"):
        engine.activate(torch.randn(4, 8), None, norm_of(8), True)
