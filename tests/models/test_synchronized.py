"""Batch normalization over several parts of a batch equals that of the whole, forward and backward."""

import threading

import pytest
import torch
from torch.nn import functional as F

from cosmictagger.models.parameters import EPSILON, Layout, Normalization
from cosmictagger.models.synchronized import batch_norm

TOLERANCE = 2e-6  # float32, sums in another order
CHANNELS = 3


class Ranks:
    """As many threads as ranks; each waits until all have given their vector, and gets the sum."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size, timeout=30)
        self.given: list[torch.Tensor] = []
        self.lock = threading.Lock()

    def sum(self, vector: torch.Tensor) -> torch.Tensor:
        with self.lock:
            self.given.append(vector)
        self.barrier.wait()
        total = torch.stack(self.given).sum(dim=0)
        if self.barrier.wait() == 0:
            self.given = []
        self.barrier.wait()
        return total


def normalization() -> Normalization:
    norm = Normalization(Layout(nplanes=1, volumetric=False, shared=True), CHANNELS)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
        norm.bias.copy_(torch.tensor([0.1, 0.0, -1.0]))
    norm.momentum = 0.25
    return norm


def on_ranks(parts: list[torch.Tensor], slopes: list[torch.Tensor]) -> list[tuple[Normalization, torch.Tensor]]:
    """Normalize each part in a thread of its own, and take it backward."""
    ranks = Ranks(len(parts))
    results: list[tuple[Normalization, torch.Tensor] | None] = [None] * len(parts)

    def work(rank: int) -> None:
        norm = normalization()
        output = batch_norm(parts[rank], norm, ranks.sum)
        (output * slopes[rank]).sum().backward()
        results[rank] = norm, output.detach()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(len(parts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [result for result in results if result is not None]


@pytest.mark.parametrize("sizes", [(6,), (3, 3), (1, 5), (2, 4, 0)], ids=str)
@pytest.mark.parametrize("shape", [(), (4, 5)], ids=["sites", "pixels"])
def test_parts_equal_the_whole(sizes, shape):
    generator = torch.Generator().manual_seed(3)
    whole = torch.randn(sum(sizes), CHANNELS, *shape, generator=generator) * 3 + 10
    slope = torch.randn(whole.shape, generator=generator)
    norm, expected = normalization(), whole.clone().requires_grad_()
    output = F.batch_norm(
        expected, norm.running_mean, norm.running_var, norm.weight, norm.bias, True, norm.momentum, EPSILON
    )
    (output * slope).sum().backward()

    parts = [part.clone().requires_grad_() for part in whole.split(sizes)]
    results = on_ranks(parts, list(slope.split(sizes)))

    scale = whole[0, 0].numel()
    torch.testing.assert_close(torch.cat([output for _, output in results]), output, atol=TOLERANCE, rtol=1e-5)
    torch.testing.assert_close(torch.cat([part.grad for part in parts]), expected.grad, atol=TOLERANCE, rtol=1e-4)
    for name in ("weight", "bias"):
        total = sum(getattr(own, name).grad for own, _ in results)
        torch.testing.assert_close(total, getattr(norm, name).grad, atol=TOLERANCE * scale, rtol=1e-4)
    for own, _ in results:
        torch.testing.assert_close(own.running_mean, norm.running_mean, atol=TOLERANCE, rtol=1e-6)
        torch.testing.assert_close(own.running_var, norm.running_var, atol=TOLERANCE, rtol=1e-5)
