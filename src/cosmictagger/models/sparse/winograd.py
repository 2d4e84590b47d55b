"""Convolution of small images with many channels by Winograd's minimal filtering (Lavin and Gray, 2015).

Tiles of 6 × 6 pixels are taken to a space where a convolution with k × k taps is a product pixel by pixel: 36 products of
matrices give (7 - k)² results, 2.8 times fewer numbers to multiply for 5 × 5 taps than unfolding, and 4 times for 3 × 3. Float32
loses three to four bits by it; 16-bit floats would lose too many.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from cosmictagger.models.sparse.native.library import NAMES
from cosmictagger.models.sparse.native.library import load as load_library

SIDE = 6
FINITE_POINTS = (0, 1, -1, 2, -2)  # where polynomials are evaluated; the sixth is infinity
# What takes tiles there, by the points above; rows of kernels are scaled so that these are whole numbers.
TILES = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
SCALES = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)
LEAST_CHANNELS = 128  # below, going there and back costs more than is saved


def suits(images: Tensor, weight: Tensor) -> bool:
    """Say whether this is faster than PyTorch's own convolution."""
    exact = images.dtype in (torch.float32, torch.float64)
    return exact and weight.shape[-1] in (3, 5) and min(weight.shape[:2]) >= LEAST_CHANNELS


def convolve(groups: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Convolve images, cut into groups [n, I, H, W] of one product each, by a weight [O, I, k, k]: [N, O, H, W]."""
    return _multiply(_kernels(weight, flipped=False), groups, weight.shape[-1])


def by_images(groups: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Take the slopes of the results to those of the images: a convolution by the flipped, transposed weight."""
    return _multiply(_kernels(weight, flipped=True).transpose(1, 2), groups, weight.shape[-1])


def by_weight(groups: Sequence[Tensor], slopes: Sequence[Tensor], size: int) -> Tensor:
    """Take the slopes of the results, cut like the images, to those of the weight [O, I, k, k]."""
    outputs, inputs = slopes[0].shape[1], groups[0].shape[1]
    there = groups[0].new_empty(SIDE * SIDE, outputs, inputs)
    for number, (images, slope) in enumerate(zip(groups, slopes, strict=True)):
        there.baddbmm_(_tiled_slopes(slope, size), _tiles(images, size).transpose(1, 2), beta=int(number > 0))
    kernels = _matrices(size, there.dtype)[1]
    return (there.view(SIDE * SIDE, -1).t() @ kernels).view(outputs, inputs, size, size)


@functools.cache
def _matrices(size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Make what takes tiles [36, 36] and kernels [36, k²] there, and what takes results [(7 - k)², 36] back."""
    step = SIDE + 1 - size
    points = torch.tensor(FINITE_POINTS, dtype=torch.float64)
    kernels, results = torch.zeros(SIDE, size, dtype=torch.float64), torch.zeros(SIDE, step, dtype=torch.float64)
    kernels[:-1] = points[:, None] ** torch.arange(size) * torch.tensor(SCALES, dtype=torch.float64)[:, None]
    results[:-1] = points[:, None] ** torch.arange(step)
    kernels[-1, -1] = results[-1, -1] = 1
    one_axis = (torch.tensor(TILES, dtype=torch.float64), kernels, results.t())
    tiles, kernels, results = (torch.kron(matrix, matrix).to(dtype) for matrix in one_axis)
    return tiles, kernels, results


def _tile_counts(images: Tensor, size: int) -> tuple[int, int]:
    step = SIDE + 1 - size
    return -(-images.shape[2] // step), -(-images.shape[3] // step)


def _tiles(images: Tensor, size: int) -> Tensor:
    """Cut images [N, C, H, W] into tiles, and take them there: [36, C, N × tiles]."""
    (number, channels, height, width), (rows, columns) = images.shape, _tile_counts(images, size)
    library = load_library()
    if not isinstance(library, str) and images.dtype in NAMES:
        images, there = images.contiguous(), images.new_empty(SIDE * SIDE, channels, number * rows * columns)
        library.typed[NAMES[images.dtype]]["take_tiles"](
            images.data_ptr(), *images.shape, size, there.data_ptr(), torch.get_num_threads()
        )
        return there
    step, reach = SIDE + 1 - size, size // 2
    margins = (reach, reach + columns * step - width, reach, reach + rows * step - height)
    padded = F.pad(images, margins).transpose(0, 1).contiguous()
    channel, image, row, column = padded.stride()
    shape = (SIDE, SIDE, channels, number, rows, columns)
    tiles = padded.as_strided(shape, (row, column, channel, image, step * row, step * column))
    return (_matrices(size, images.dtype)[0] @ tiles.reshape(SIDE * SIDE, -1)).view(SIDE * SIDE, channels, -1)


def _kernels(weight: Tensor, *, flipped: bool) -> Tensor:
    """Take a weight [O, I, k, k] there: [36, O, I]."""
    matrix = _matrices(weight.shape[-1], weight.dtype)[1]
    there = (matrix.flip(1) if flipped else matrix) @ weight.reshape(-1, weight.shape[-1] ** 2).t()
    return there.view(SIDE * SIDE, *weight.shape[:2])


def _multiply(kernels: Tensor, groups: Sequence[Tensor], size: int) -> Tensor:
    return torch.cat([_results(torch.bmm(kernels, _tiles(images, size)), images, size) for images in groups])


def _tiled_slopes(slope: Tensor, size: int) -> Tensor:
    """Take slopes of results [N, C, H, W] there: [36, C, N × tiles]."""
    (number, channels, height, width), (rows, columns) = slope.shape, _tile_counts(slope, size)
    step = SIDE + 1 - size
    padded = F.pad(slope, (0, columns * step - width, 0, rows * step - height))
    tiles = padded.view(number, channels, rows, step, columns, step).permute(3, 5, 1, 0, 2, 4)
    there = _matrices(size, slope.dtype)[2].t() @ tiles.reshape(step * step, -1)
    return there.view(SIDE * SIDE, channels, -1)


def _results(there: Tensor, like: Tensor, size: int) -> Tensor:
    """Take results [36, C, N × tiles] back to images [N, C, H, W] of as many and as large ones as `like`."""
    step, channels, (rows, columns) = SIDE + 1 - size, there.shape[1], _tile_counts(like, size)
    back = _matrices(size, there.dtype)[2] @ there.view(SIDE * SIDE, -1)
    tiles = back.view(step, step, channels, len(like), rows, columns).permute(3, 2, 4, 0, 5, 1)
    images = tiles.reshape(len(like), channels, rows * step, columns * step)
    return images[:, :, : like.shape[2], : like.shape[3]]
