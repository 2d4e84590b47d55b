"""Who neighbours whom, and who pools into whom: by the compiled kernels, and where those do not work by numpy.

Sites are given as `image_plane` and `pixel` [S], in the order of image, plane, tick, wire; `planes` counts the
planes of all images.
"""

import itertools
from typing import Protocol

import numpy as np
import numpy.typing as npt

from cosmictagger.models.sparse.native import library

Int32 = npt.NDArray[np.int32]
Float32 = npt.NDArray[np.float32]
Pooled = tuple[Int32, Int32, Int32, Int32]
ABSENT = -1
LARGEST = 63  # kernel that fits the compiled maps: a row of it must fit a word of bits


class Builder(Protocol):
    """Makes the tables of a level, with so many threads."""

    @property
    def threads(self) -> int:
        """How many threads look for neighbours."""
        ...

    def neighbours(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], size: int) -> Int32:
        """Find the neighbours of every site under a size × size kernel: [S, size * size], -1 where not active."""
        ...

    def surrounding_sums(
        self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], charge: Float32
    ) -> Float32:
        """Sum the charge [S] of the 3 × 3 surroundings of every site, itself included: [S]."""
        ...

    def pool(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int]) -> Pooled:
        """Halve the resolution: image_plane and pixel of the level below, and the links `family` and `children`."""
        ...


def best_builder(threads: int = 1) -> Builder:
    """Return the fastest builder that works here, which may use so many threads."""
    kernels = library.load()
    return NumpyBuilder() if isinstance(kernels, str) else CompiledBuilder(kernels, threads)


class CompiledBuilder:
    """A bit for every pixel, and counts of those before; runs beside other Python threads."""

    def __init__(self, kernels: library.Library, threads: int = 1) -> None:
        self._functions, self.threads = kernels.functions, threads

    def neighbours(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], size: int) -> Int32:
        """Find the neighbours of every site."""
        if size > LARGEST:
            return NumpyBuilder().neighbours(image_plane, pixel, planes, shape, size)
        table = np.empty((len(pixel), size * size), np.int32)
        self._functions["neighbours"](
            image_plane.ctypes.data, pixel.ctypes.data, len(pixel), planes, *shape, size, table.ctypes.data,
            self.threads,
        )  # fmt: skip
        return table

    def surrounding_sums(
        self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], charge: Float32
    ) -> Float32:
        """Sum the charge of surroundings."""
        sums = np.empty(len(pixel), np.float32)
        self._functions["neighbour_sums"](
            image_plane.ctypes.data, pixel.ctypes.data, len(pixel), planes, *shape, 3, charge.ctypes.data,
            sums.ctypes.data, self.threads,
        )  # fmt: skip
        return sums

    def pool(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int]) -> Pooled:
        """Halve the resolution."""
        plane, position, family = (np.empty(len(pixel), np.int32) for _ in range(3))
        children = np.empty((len(pixel), 4), np.int32)
        addresses = [array.ctypes.data for array in (plane, position, family, children)]
        count = self._functions["pool_sites"](
            image_plane.ctypes.data, pixel.ctypes.data, len(pixel), shape[1], *addresses
        )
        return plane[:count], position[:count], family, children[:count]


class NumpyBuilder:
    """A dense map of each plane to look neighbours up, and sorting to pool."""

    threads = 1

    def neighbours(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], size: int) -> Int32:
        """Find the neighbours of every site."""
        height, width = shape
        reach = size // 2
        # The map has a margin of absent sites; one plane at a time, so that it stays in the caches.
        numbers = np.full((height + 2 * reach, width + 2 * reach), ABSENT, np.int32)
        flat = numbers.reshape(-1)
        steps = np.arange(-reach, reach + 1)
        offsets = (steps[:, None] * numbers.shape[1] + steps).reshape(-1)
        table = np.empty((len(pixel), size * size), np.int32)
        bounds = np.searchsorted(image_plane, np.arange(planes + 1))
        for start, end in itertools.pairwise(bounds):
            tick, wire = np.divmod(pixel[start:end], width)
            where = (tick.astype(np.int64) + reach) * numbers.shape[1] + wire + reach
            flat[where] = np.arange(start, end, dtype=np.int32)
            np.take(flat, where[:, None] + offsets, out=table[start:end])
            flat[where] = ABSENT
        return table

    def surrounding_sums(
        self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int], charge: Float32
    ) -> Float32:
        """Sum the charge of surroundings."""
        # The last charge is that of neighbours that are not there, numbered -1.
        padded = np.append(charge, np.float32(0))
        sums: Float32 = padded[self.neighbours(image_plane, pixel, planes, shape, 3)].sum(axis=1)
        return sums

    def pool(self, image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int]) -> Pooled:
        """Halve the resolution."""
        half = (shape[0] // 2, shape[1] // 2)
        tick, wire = np.divmod(pixel, shape[1])
        key = image_plane.astype(np.int64) * (half[0] * half[1]) + (tick >> 1) * half[1] + (wire >> 1)
        unique, parent = np.unique(key, return_inverse=True)
        family = (4 * parent + 2 * (tick & 1) + (wire & 1)).astype(np.int32)
        children = np.full(4 * len(unique), ABSENT, np.int32)
        children[family] = np.arange(len(pixel), dtype=np.int32)
        plane, position = np.divmod(unique, half[0] * half[1])
        return plane.astype(np.int32), position.astype(np.int32), family, children.reshape(-1, 4)
