"""Site sets: which pixels of a batch are active at each level, and who neighbours whom.

All tables are plain numpy arrays, made once for a batch and shared by every convolution, forward and backward. Those of
neighbours are made when an engine asks for them, as not every engine wants them in this form. `build_sites` depends on nothing but its arguments and may run in any thread.
"""

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.sparse.tables import Builder, best_builder

Int32 = npt.NDArray[np.int32]
Sizes = Sequence[frozenset[int]]  # for each level, the odd kernel sizes above 1 that its convolutions have


@dataclasses.dataclass(frozen=True, kw_only=True)
class Level:
    """The S active sites of one level, in the order of image, plane, tick, wire."""

    shape: tuple[int, int]  # height (ticks) and width (wires) of the level's images
    image_plane: Int32  # [S], image * planes + plane
    pixel: Int32  # [S], tick * width + wire
    planes: int  # of all images
    sizes: frozenset[int]  # of the kernels that its convolutions have
    builder: Builder  # of the neighbours
    # The first site of each tick of each plane, and their number [images * planes * height + 1]; None where planes tell
    # each other nothing.
    ticks: Int32 | None = None
    # Links to the level below; None at the deepest.
    family: Int32 | None = None  # [S], 4 * parent + slot, where slot = 2 * (tick % 2) + wire % 2
    children: Int32 | None = None  # [sites below, 4], the child in each slot; -1: not active

    def __len__(self) -> int:
        return len(self.pixel)

    def neighbours(self, size: int) -> Int32:
        """Find the neighbours in the order of the taps of a size × size kernel: [S, size * size], -1 where not active."""
        return self.builder.neighbours(self.image_plane, self.pixel, self.planes, self.shape, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SiteTables:
    """The site sets of a batch, from full resolution to the deepest level."""

    images: int
    planes: int
    levels: tuple[Level, ...]


def kernel_sizes(config: NetworkConfig) -> tuple[frozenset[int], ...]:
    """List the sizes of the sparse kernels at each level of a network: network_depth + 1 sets."""
    blocks = {3} if config.res_blocks_per_layer else set()
    levels = [set(blocks) for _ in range(config.network_depth)]
    levels[0] |= {config.filter_size_initial} | ({3} if config.res_blocks_final else set())
    levels.append({config.filter_size_deepest} if config.block_concat else set())
    return tuple(frozenset(sizes - {1}) for sizes in levels)


def tick_levels(config: NetworkConfig) -> frozenset[int]:
    """List the levels at which planes tell each other something, tick by tick."""
    first = config.network_depth - config.exchange_levels
    return frozenset({*range(first, config.network_depth), *config.crossing_levels})


def build_sites(
    index: npt.NDArray[np.int32],
    counts: npt.NDArray[np.int32],
    shape: tuple[int, int],
    sizes: Sizes,
    builder: Builder | None = None,
    *,
    ticks_at: Collection[int] = (),
) -> SiteTables:
    """Make the site sets of a batch for levels 0 to len(sizes) - 1.

    `index` [N, P, V] holds tick * width + wire of the active pixels of every plane in ascending order, the first
    `counts` [N, P] of each row; `shape` (height, width) divides by 2 ^ (len(sizes) - 1). `builder` makes the
    tables [the fastest that works here]; the levels `ticks_at` get `ticks`. Raises ValueError where the pixels of a
    plane are not strictly ascending (a duplicate, say) or lie outside the image.
    """
    builder = builder or best_builder()
    images, planes, slots = index.shape
    used = np.arange(slots, dtype=np.int32) < counts[:, :, None]
    pixel = np.ascontiguousarray(index[used])
    image_plane = np.repeat(np.arange(images * planes, dtype=np.int32), counts.reshape(-1))
    _check(image_plane, pixel, shape)
    levels = []
    for number, kernels in enumerate(sizes):
        ticks = _ticks(image_plane, pixel, images * planes, shape) if number in ticks_at else None
        level = Level(
            shape=shape, image_plane=image_plane, pixel=pixel, planes=images * planes, sizes=kernels, builder=builder,
            ticks=ticks,
        )  # fmt: skip
        if number + 1 < len(sizes):
            image_plane, pixel, family, children = builder.pool(image_plane, pixel, images * planes, shape)
            level = dataclasses.replace(level, family=family, children=children)
            shape = (shape[0] // 2, shape[1] // 2)
        levels.append(level)
    return SiteTables(images=images, planes=planes, levels=tuple(levels))


def _ticks(image_plane: Int32, pixel: Int32, planes: int, shape: tuple[int, int]) -> Int32:
    sites = np.bincount(image_plane * shape[0] + pixel // shape[1], minlength=planes * shape[0])
    return np.concatenate(([0], np.cumsum(sites))).astype(np.int32)


def _check(image_plane: Int32, pixel: Int32, shape: tuple[int, int]) -> None:
    if len(pixel) and (pixel.min() < 0 or pixel.max() >= shape[0] * shape[1]):
        raise ValueError(f"an active pixel lies outside the image of {shape[0]}×{shape[1]}")
    same_plane = image_plane[1:] == image_plane[:-1]
    wrong = np.flatnonzero(same_plane & (pixel[1:] <= pixel[:-1]))
    if len(wrong):
        first, second = pixel[wrong[0]], pixel[wrong[0] + 1]
        raise ValueError(
            f"the pixels of a plane must ascend without duplicates, but {second} follows {first} (image × plane "
            f"{image_plane[wrong[0]]})"
        )
