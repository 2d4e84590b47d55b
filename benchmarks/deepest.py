"""Convolutions of the deepest level, three ways: python benchmarks/deepest.py [--rounds R]

Forward pass and both slopes of a batch in float32, in milliseconds: PyTorch's own convolution (oneDNN), unfolded, and by
Winograd's products, each for one thread and for all. The ways take turns; figures are medians with the smallest and the largest.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmictagger.models.sparse import unfolded, winograd
from cosmictagger.models.sparse.merged import image_groups

# Images, channels, ticks, wires and taps: depth 5 at 640 × 1024, and four images at depth 7.
CASES = (
    (1, 256, 20, 32, 5),
    (1, 256, 20, 32, 3),
    (1, 128, 20, 32, 5),
    (1, 128, 20, 32, 3),
    (1, 64, 20, 32, 3),
    (4, 96, 5, 8, 5),
)
WARMUP = 3


def ways(images: Tensor, weight: Tensor, slope: Tensor) -> dict[str, Callable[[], object]]:
    """Name what computes the convolution and its slopes."""
    size = weight.shape[-1]
    groups, slopes = image_groups(images), image_groups(slope)
    images, weight = images.requires_grad_(), weight.requires_grad_()

    def products(way: object) -> Callable[[], object]:
        def run() -> None:
            with torch.no_grad():
                way.convolve(groups, weight)  # type: ignore[attr-defined]
                way.by_images(slopes, weight)  # type: ignore[attr-defined]
                way.by_weight(groups, slopes, size)  # type: ignore[attr-defined]

        return run

    return {
        "oneDNN": lambda: torch.autograd.grad(F.conv2d(images, weight, padding=size // 2), (images, weight), slope),
        "unfolded": products(unfolded),
        "Winograd": products(winograd),
    }


def milliseconds(run: Callable[[], object]) -> float:
    """Time one call."""
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)


def error(images: Tensor, weight: Tensor, way: object) -> float:
    """Compare a forward pass in float32 with one in float64: the norm of the difference over that of the result."""
    exact = F.conv2d(images.double(), weight.double(), padding=weight.shape[-1] // 2)
    return float((way.convolve(image_groups(images), weight) - exact).norm() / exact.norm())  # type: ignore[attr-defined]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    most = torch.get_num_threads()
    for threads in sorted({1, most}):
        torch.set_num_threads(threads)
        sys.stdout.write(f"\n{'images, channels, ticks, wires, taps':38} threads {threads}\n")
        for number, channels, ticks, wires, size in CASES:
            torch.manual_seed(0)
            images, slope = torch.randn(2, number, channels, ticks, wires)
            weight = torch.randn(channels, channels, size, size)
            runs = ways(images, weight, slope)
            found: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(given.rounds + WARMUP):
                for name, run in runs.items():
                    found[name].append(milliseconds(run))
            columns = [f"{(number, channels, ticks, wires, size)!s:38}"]
            for name, times in found.items():
                kept = times[WARMUP:]
                columns.append(f"{name} {statistics.median(kept):6.2f} [{min(kept):.2f}–{max(kept):.2f}]")
            sys.stdout.write("  ".join(columns) + "\n")
    with torch.no_grad():
        images, weight = torch.randn(1, 256, 20, 32), torch.randn(256, 256, 5, 5)
        errors = {name: error(images, weight, way) for name, way in (("unfolded", unfolded), ("Winograd", winograd))}
    sys.stdout.write(
        f"\nerror in float32, 256 channels, 5 × 5: {errors['unfolded']:.1e} unfolded, {errors['Winograd']:.1e} Winograd\n"
    )


if __name__ == "__main__":
    main()
