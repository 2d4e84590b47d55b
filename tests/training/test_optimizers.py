import copy
import subprocess
import sys

import pytest
import torch
from torch import nn

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.errors import UserError
from cosmictagger.training import eager
from cosmictagger.training.muon import orthogonalized
from cosmictagger.training.optimizers import build_optimizer, parameter_groups

# Learning rates at which 60 steps make a visible difference; lars multiplies its own by a trust ratio of about 1e-3.
RATES = {"adam": 0.05, "adamw": 0.05, "rmsprop": 0.02, "lars": 5.0, "lamb": 0.05, "muon": 0.2}
STEPS = 60


def seeded(seed):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """A loss with its minimum where weight is 1 and bias is -1."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 5, generator=generator))
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self):
        return ((self.weight - 1) ** 2).sum() + 0.01 * ((self.bias + 1) ** 2).sum()


def run(module, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        module().backward()
        optimizer.step()


@pytest.mark.parametrize("name", RATES)
def test_reduces_a_quadratic(name):
    module = Quadratic()
    before = module().item()
    run(module, build_optimizer(module, TrainingConfig(optimizer=name, learning_rate=RATES[name])), STEPS)
    assert module().item() < before / 10


@pytest.mark.parametrize("name", RATES)
def test_state_dict_continues_where_it_stopped(name):
    config = TrainingConfig(optimizer=name, learning_rate=RATES[name])
    module = Quadratic()
    optimizer = build_optimizer(module, config)
    run(module, optimizer, 5)
    resumed = copy.deepcopy(module)
    other = build_optimizer(resumed, config)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(module, optimizer, 5)
    run(resumed, other, 5)
    assert torch.equal(resumed.weight, module.weight)
    assert torch.equal(resumed.bias, module.bias)


def test_weights_decay_and_biases_and_normalizations_do_not():
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ConvTranspose2d(3, 2, 2))
    decaying, free = parameter_groups(module, 0.5)
    assert decaying["weight_decay"] == 0.5
    assert free["weight_decay"] == 0.0
    assert {id(p) for p in decaying["params"]} == {id(module[0].weight), id(module[2].weight)}
    assert len(free["params"]) == 4


def test_frozen_parameters_are_left_out():
    module = nn.Conv2d(2, 3, 3, bias=False)
    module.weight.requires_grad_(False)
    assert parameter_groups(module, 0.5) == []


def after_one_step_without_gradient(name, decay):
    module = nn.Linear(1, 1)
    nn.init.ones_(module.weight)
    nn.init.ones_(module.bias)
    optimizer = build_optimizer(module, TrainingConfig(optimizer=name, learning_rate=0.125, regularize_weights=decay))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    return module.weight.item(), module.bias.item()


def test_adamw_decays_apart_from_the_gradient_and_adam_through_it():
    assert after_one_step_without_gradient("adamw", 0.5) == (1 - 0.125 * 0.5, 1.0)
    # Adam's first step has the size of the learning rate, however small the decay.
    assert after_one_step_without_gradient("adam", 0.5) == (pytest.approx(1 - 0.125), 1.0)
    assert after_one_step_without_gradient("adam", 0.0) == (1.0, 1.0)


def test_muon_steps_along_all_directions_alike():
    kernel = nn.Conv2d(6, 8, 3, bias=False)
    optimizer = build_optimizer(kernel, TrainingConfig(optimizer="muon", learning_rate=0.125, regularize_weights=0.0))
    # A gradient that is strong in one direction and weak in seven others.
    left, _, right = torch.linalg.svd(torch.randn(8, 54, generator=seeded(0)), full_matrices=False)
    kernel.weight.grad = (left @ torch.diag(torch.tensor([1.0] + 7 * [0.05])) @ right).reshape(8, 6, 3, 3)
    before = kernel.weight.detach().clone()
    optimizer.step()
    step = (before - kernel.weight.detach()).reshape(8, 54)
    # Five iterations make them nearly alike, not exactly; the directions are those of the gradient.
    sizes = torch.diagonal(left.T @ step @ right.T) / (0.125 * 0.2 * 54**0.5)
    assert sizes.max() < 1.3
    assert sizes.min() > 0.6


def test_muon_steps_are_as_long_as_those_of_adamw():
    lengths = {}
    for name in ("muon", "adamw"):
        torch.manual_seed(0)
        kernel = nn.Conv2d(16, 16, 3, bias=False)
        before = kernel.weight.detach().clone()
        optimizer = build_optimizer(kernel, TrainingConfig(optimizer=name, learning_rate=1e-3, regularize_weights=0.0))
        for number in range(50):
            kernel.weight.grad = torch.randn(kernel.weight.shape, generator=seeded(number))
            before = kernel.weight.detach().clone()
            optimizer.step()
        lengths[name] = (kernel.weight.detach() - before).norm().item()
    # Of gradients without any direction in common; 0.2 is what adamw's steps come to in a training.
    assert 0.5 < lengths["muon"] / lengths["adamw"] < 2


def test_muon_takes_tall_and_wide_kernels_alike():
    wide, tall = nn.Linear(12, 5, bias=False), nn.Linear(5, 12, bias=False)
    with torch.no_grad():
        tall.weight.copy_(wide.weight.T)
    gradient = torch.randn(5, 12, generator=seeded(1))
    for module, its in ((wide, gradient), (tall, gradient.T)):
        optimizer = build_optimizer(module, TrainingConfig(optimizer="muon", learning_rate=0.125))
        module.weight.grad = its.contiguous()
        optimizer.step()
    torch.testing.assert_close(wide.weight, tall.weight.T)


def test_orthogonalized_agrees_with_the_iteration_written_out():
    matrices = torch.randn(3, 7, 20, generator=seeded(2), dtype=torch.float64)
    expected = matrices / matrices.norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        product = expected @ expected.mT
        expected = 3.4445 * expected + (-4.7750 * product + 2.0315 * product @ product) @ expected
    torch.testing.assert_close(orthogonalized(matrices), expected)
    torch.testing.assert_close(orthogonalized(matrices.float()), expected.float(), atol=1e-4, rtol=1e-4)
    assert not orthogonalized(torch.zeros(1, 4, 5)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_muon_keeps_momentum_and_decays_apart_from_it(dtype):
    """Three steps with gradients of different directions, beside the rule written out; one parameter without any."""
    rate, decay = 0.01, 0.5
    module = nn.ModuleDict({"kernel": nn.Conv2d(5, 6, 3, bias=False), "unused": nn.Linear(9, 9, bias=False)})
    module = module.to(dtype, memory_format=torch.channels_last)
    kernel, unused = module["kernel"].weight, module["unused"].weight.detach().clone()
    optimizer = build_optimizer(module, TrainingConfig(optimizer="muon", learning_rate=rate, regularize_weights=decay))
    expected, momentum = kernel.detach().clone(), torch.zeros_like(kernel)
    for number in range(3):
        gradient = torch.randn(kernel.shape, generator=seeded(number)).to(dtype)
        kernel.grad = gradient.clone(memory_format=torch.channels_last)
        optimizer.step()
        momentum = 0.95 * momentum + 0.05 * gradient
        direction = (0.05 * gradient + 0.95 * momentum).reshape(1, 6, 45)
        step = orthogonalized(direction).reshape(kernel.shape) * 0.2 * 45**0.5
        expected = (1 - rate * decay) * expected - rate * step.to(dtype)
    tolerance = 1e-5 if dtype is torch.float32 else 2e-2
    torch.testing.assert_close(kernel.detach(), expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(module["unused"].weight, unused)


def test_muon_leaves_classifier_and_vectors_to_adamw():
    module = nn.Sequential(nn.Conv2d(8, 3, 1), nn.Conv2d(8, 8, 1))
    optimizer = build_optimizer(module, TrainingConfig(optimizer="muon", learning_rate=0.125, regularize_weights=0.0))
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    before = [parameter.detach().clone() for parameter in module.parameters()]
    optimizer.step()
    moved = [(a - b.detach()).abs() for a, b in zip(before, module.parameters(), strict=True)]
    # adamw's first step has the size of the learning rate; muon's of a matrix of rank 1 is smaller.
    assert [torch.allclose(m, torch.tensor(0.125), atol=1e-4) for m in moved] == [True, True, False, True]


def test_missing_package_is_said_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(UserError, match=r"--optimizer: lamb needs .* 'pip install pytorch-optimizer'"):
        build_optimizer(Quadratic(), TrainingConfig(optimizer="lamb"))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop"])
def test_steps_without_the_compiler_are_those_of_pytorch(name):
    ours, theirs = Quadratic(), Quadratic()
    options = {"lr": 0.05, "weight_decay": 0.1}
    run(ours, getattr(eager, name)(ours.parameters(), **options), 5)
    run(theirs, getattr(torch.optim, name)(theirs.parameters(), **options), 5)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize("name", ["adamw", "muon", "rmsprop"])
def test_a_training_does_not_load_pytorchs_compiler(name, tmp_path):
    # It takes 70 MB and two seconds of every rank.
    code = (
        "import sys; from cosmictagger.cli import main; "
        "print(main(sys.argv[1:]), [name for name in sys.modules if name.startswith('torch._dynamo')])"
    )
    options = "train --sparse --synthetic --synthetic-events 2 --downsample 3 -i 2 -mb 1 --warmup-steps 0 --verbosity 0"
    command = [sys.executable, "-c", code, *options.split(), "--optimizer", name, "--log-directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr
