"""Calibration replaces running statistics by plain averages over given batches, and changes nothing else."""

from types import SimpleNamespace

import pytest
import torch

from cosmictagger.config.sections import TrainingConfig
from cosmictagger.distributed.serial import SerialCommunicator
from cosmictagger.models.dense.parts import Normalization
from cosmictagger.models.parameters import Layout
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.training.evaluation import Evaluator
from cosmictagger.training.precision import resolve_precision
from cosmictagger.training.prefetch import unpacked

CHANNELS, MOMENTUM = 4, 0.3


class Batches:
    """A feed of tensors."""

    def __init__(self, batches):
        self.batches, self.closed = batches, False

    def __iter__(self):
        yield from enumerate(self.batches)

    def close(self):
        self.closed = True


@pytest.fixture
def network():
    norm = Normalization(Layout(nplanes=1, volumetric=False, shared=True), CHANNELS)
    norm.momentum = MOMENTUM
    return torch.nn.Sequential(norm).train()


def run(network, feed):
    evaluator = Evaluator(
        network=network,
        unpack=lambda records: SimpleNamespace(inputs=records),
        unpacking=unpacked,
        precision=resolve_precision(TrainingConfig(), torch.device("cpu")),
        clocks=Clocks(lambda: None),
    )
    evaluator.calibrate(feed, SerialCommunicator(), MOMENTUM)


@pytest.mark.parametrize("number", [1, 2, 5])
def test_statistics_are_the_averages_over_the_batches(network, number):
    batches = [torch.randn(2, CHANNELS, 3, 5, generator=torch.Generator().manual_seed(n)) + n for n in range(number)]
    weight, feed = network[0].weight.clone(), Batches(batches)
    run(network, feed)
    means = torch.stack([batch.mean(dim=(0, 2, 3)) for batch in batches])
    variances = torch.stack([batch.var(dim=(0, 2, 3)) for batch in batches])
    torch.testing.assert_close(network[0].running_mean, means.mean(dim=0))
    torch.testing.assert_close(network[0].running_var, variances.mean(dim=0))
    assert feed.closed
    assert network[0].momentum == MOMENTUM
    assert torch.equal(network[0].weight, weight)
    assert network[0].weight.grad is None


def test_without_batches_statistics_stay(network):
    network[0].running_mean.fill_(7)
    run(network, Batches([]))
    assert network[0].running_mean.tolist() == [7] * CHANNELS
