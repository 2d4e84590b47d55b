"""Small larcv3 files for tests, valid or broken on purpose, and slow but plain references for what is in them."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from cosmictagger.data.events import EventId, PlanePixels, Product
from cosmictagger.data.products import Particles, Sparse2D, blank_particles
from cosmictagger.data.writer import LarcvWriter

SHAPE = (16, 32)  # ticks, wires
IMAGE, LABEL, PARTICLE = "wire", "seg", "neutrino"
IMAGE_GROUP, LABEL_GROUP = "Data/sparse2d_wire_group", "Data/sparse2d_seg_group"

Planes = Sequence[PlanePixels]


def plane(
    index: Sequence[int], value: Sequence[float] | None = None, label: Sequence[int] | None = None
) -> PlanePixels:
    """A plane of given pixels; charges 5, 6, 7 … and labels 0, 1, 2, 0 … unless they are given."""
    count = len(index)
    return PlanePixels(
        np.array(index, np.int32),
        np.arange(5, 5 + count, dtype=np.float32) if value is None else np.array(value, np.float32),
        np.arange(count, dtype=np.uint8) % 3 if label is None else np.array(label, np.uint8),
    )


def random_planes(seed: int, pixels: int = 40, planes: int = 3, shape: tuple[int, int] = SHAPE) -> Planes:
    """Planes of random pixels, charges with all 24 bits in use, and labels."""
    rng = np.random.default_rng(seed)
    return [
        PlanePixels(
            np.sort(rng.choice(shape[0] * shape[1], pixels, replace=False)).astype(np.int32),
            rng.lognormal(2.2, 1.3, pixels).astype(np.float32),
            rng.integers(0, 3, pixels).astype(np.uint8),
        )
        for _ in range(planes)
    ]


def write_file(
    path: Path,
    events: Sequence[Planes],
    shape: tuple[int, int] = SHAPE,
    labels: Sequence[Planes] | None = None,
    **options,
) -> Path:
    """Write images, labels (of other events where `labels` is given) and `entry` + 1 particles an event."""
    with LarcvWriter(path, shape=shape, **options) as writer:
        for entry, planes in enumerate(events):
            particles = blank_particles(entry + 1)
            particles["pdg"] = 11 + entry
            products = {
                Product("sparse2d", IMAGE): Sparse2D.charges(planes),
                Product("sparse2d", LABEL): Sparse2D.labels(labels[entry] if labels else planes),
                Product("particle", PARTICLE): Particles(particles),
            }
            writer.append(EventId(1, 20, 300 + entry), products)
    return path


def rewrite(path: Path, table: str, rows: np.ndarray | None = None, **storage) -> None:
    """Replace a table's rows (by default its own) and the way they are stored."""
    with h5py.File(path, "r+") as file:
        rows = file[table][:] if rows is None else rows
        del file[table]
        file.create_dataset(table, data=rows, **storage)


def edit(path: Path, table: str, change) -> None:
    """Apply `change` to the rows of a table, in place."""
    with h5py.File(path, "r+") as file:
        rows = file[table][:]
        change(rows)
        file[table][:] = rows


def slow_downsample(ids, values, shape: tuple[int, int], times: int) -> tuple[dict, dict]:
    """Average and maximum of each block by a loop over pixels, in float32: block index → value."""
    ticks, wires = shape
    sums, largest = {}, {}
    for pixel, value in zip(np.asarray(ids).tolist(), np.asarray(values, np.float32), strict=True):
        wire, tick = divmod(pixel, ticks)
        block = (tick >> times) * (wires >> times) + (wire >> times)
        sums[block] = sums[block] + value if block in sums else value
        largest[block] = max(largest.get(block, value), value)
    return {block: total / np.float32(4**times) for block, total in sums.items()}, largest
