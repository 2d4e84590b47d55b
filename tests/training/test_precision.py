import pytest
import torch
from torch import nn

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.training.loss import dense_loss
from cosmictagger.training.optimizers import build_optimizer
from cosmictagger.training.precision import GROWTH_INTERVAL, LossScaler, bfloat16_time, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FLOAT32, BFLOAT16, FLOAT16 = torch.float32, torch.bfloat16, torch.float16


@pytest.mark.parametrize(
    ("settings", "device", "model", "computing", "scale"),
    [
        ({}, CPU, FLOAT32, None, 1.0),
        ({"precision": "bfloat16"}, CPU, BFLOAT16, None, 1.0),
        ({"model_half_precision": True}, CPU, BFLOAT16, None, 1.0),
        ({"precision": "mixed"}, CPU, FLOAT32, BFLOAT16, 1.0),
        ({"precision": "mixed"}, GPU, FLOAT32, FLOAT16, None),
        ({"precision": "mixed", "loss_scale": 128.0}, GPU, FLOAT32, FLOAT16, 128.0),
        ({"loss_scale": 8.0}, CPU, FLOAT32, None, 8.0),
    ],
)
def test_resolution(settings, device, model, computing, scale):
    precision = resolve_precision(TrainingConfig(**settings), device, gpu_bfloat16=False)
    assert (precision.model_dtype, precision.autocast_dtype, precision.loss_scale) == (model, computing, scale)
    assert precision.input_dtype == model
    assert precision.scaler().dynamic == (scale is None)


def test_a_gpu_with_bfloat16_computes_in_it_without_scaling():
    precision = resolve_precision(TrainingConfig(precision="mixed"), GPU, gpu_bfloat16=True)
    assert (precision.autocast_dtype, precision.loss_scale) == (BFLOAT16, 1.0)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"precision": "mixed"}, BFLOAT16),
        ({"precision": "bfloat16"}, BFLOAT16),
        ({}, FLOAT16),
        ({"input_transform": "none"}, BFLOAT16),
    ],
)
def test_half_input_has_the_format_of_the_computing_or_the_finer_that_holds_it(settings, expected):
    config = TrainingConfig(input_half_precision=True, **settings)
    assert resolve_precision(config, CPU).input_dtype == expected


def tiny_network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 3, 1))


@pytest.mark.parametrize("name", ["float32", "bfloat16", "mixed"])
@pytest.mark.parametrize("optimizer_name", ["adam", "lamb", "muon"])
def test_a_tiny_network_trains_in_every_precision(name, optimizer_name):
    config = TrainingConfig(precision=name, learning_rate=0.02, optimizer=optimizer_name)
    precision = resolve_precision(config, CPU)
    network = precision.prepare(tiny_network().to(memory_format=torch.channels_last))
    optimizer, scaler = build_optimizer(network, config), precision.scaler()
    charge = 3 * torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    label = charge.squeeze(1).to(torch.uint8).view(2, 3, 16, 16)
    losses = []
    for _ in range(40):
        with precision.autocast():
            logits = network(charge.to(precision.model_dtype))
        loss = dense_loss(logits.unflatten(0, (2, 3)), label, "light")
        losses.append(loss.item())
        optimizer.zero_grad()
        scaler.backward(loss)
        scaler.unscale(optimizer)
        assert scaler.step(optimizer)
    assert logits.dtype == (FLOAT32 if name == "float32" else BFLOAT16)
    assert loss.dtype == FLOAT32
    assert network[0].weight.dtype == precision.model_dtype
    assert {t.dtype for t in (network[1].weight, network[1].running_mean, network[1].running_var)} == {FLOAT32}
    assert losses[-1] < losses[0] / 2


def one_parameter(gradient=None):
    parameter = nn.Parameter(torch.tensor([1.0]))
    if gradient is not None:
        parameter.grad = torch.tensor([gradient])
    return parameter, torch.optim.SGD([parameter], lr=1.0)


@pytest.mark.parametrize("scaler", [LossScaler(), LossScaler(64.0), LossScaler(1024.0, dynamic=True)])
def test_scaling_leaves_the_update_as_it_is(scaler):
    parameter, optimizer = one_parameter()
    for _ in range(2):  # two micro-steps
        scaler.backward((parameter * 0.25).sum())
    assert parameter.grad.item() == 0.5 * scaler.scale
    scaler.unscale(optimizer)
    assert scaler.step(optimizer)
    assert parameter.item() == 0.5


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_dynamic_scaling_skips_and_counts_what_is_not_finite(bad):
    parameter, optimizer = one_parameter(bad)
    scaler = LossScaler(1024.0, dynamic=True)
    scaler.unscale(optimizer)
    assert not scaler.step(optimizer)
    assert (parameter.item(), scaler.skipped, scaler.scale) == (1.0, 1, 512.0)
    parameter.grad = torch.tensor([512.0])
    scaler.unscale(optimizer)
    assert scaler.step(optimizer)
    assert (parameter.item(), scaler.skipped) == (0.0, 1)


def test_dynamic_scale_grows_after_good_steps_and_survives_a_checkpoint():
    scaler = LossScaler(4.0, dynamic=True)
    _, optimizer = one_parameter(0.0)
    for _ in range(GROWTH_INTERVAL - 1):
        scaler.step(optimizer)
    assert scaler.scale == 4.0
    resumed = LossScaler(1.0, dynamic=True)
    resumed.load_state_dict(scaler.state_dict())
    resumed.step(optimizer)
    assert resumed.scale == 8.0


def test_a_static_scale_is_not_taken_over_from_a_checkpoint():
    scaler = LossScaler(4.0)
    scaler.load_state_dict(LossScaler(16.0, dynamic=True).state_dict())
    assert scaler.scale == 4.0


@pytest.mark.parametrize(
    ("settings", "device", "measured"),
    [
        ({"precision": "mixed"}, CPU, True),
        ({"precision": "bfloat16"}, CPU, True),
        ({}, CPU, False),
        ({"precision": "mixed"}, GPU, False),
    ],
)
def test_products_are_timed_where_a_cpu_computes_in_bfloat16(settings, device, measured):
    times = bfloat16_time(resolve_precision(TrainingConfig(**settings), device, gpu_bfloat16=True))
    assert (times > 0) if measured else (times is None)
