"""What an event consists of when it is written: plain arrays, one small class for each larcv3 product type."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import PlanePixels
from cosmictagger.data.layout import PARTICLE, Records


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Some pixels of an image: `index` (whole numbers, each at most once, in any order) and `value` (float32).

    The index is tick * width + wire in a plane, and (x * ny + y) * nz + z in a 3D image of nx × ny × nz voxels.
    """

    index: npt.NDArray[np.integer]
    value: npt.NDArray[np.generic]

    def __post_init__(self) -> None:
        if self.index.ndim != 1 or self.index.shape != self.value.shape:
            raise ValueError(f"index {self.index.shape} and value {self.value.shape} must be flat and equally long")


@dataclasses.dataclass(frozen=True)
class Sparse2D:
    """Images or labels: the pixels of each plane."""

    type: ClassVar[str] = "sparse2d"
    planes: Sequence[Pixels]

    @classmethod
    def charges(cls, planes: Sequence[PlanePixels]) -> "Sparse2D":
        """Take the charges of an event's planes."""
        return cls(tuple(Pixels(plane.index, plane.value) for plane in planes))

    @classmethod
    def labels(cls, planes: Sequence[PlanePixels]) -> "Sparse2D":
        """Take the labels of an event's planes; ValueError where a plane has none."""
        if any(plane.label is None for plane in planes):
            raise ValueError("the planes have no labels")
        return cls(tuple(Pixels(plane.index, plane.label) for plane in planes if plane.label is not None))


@dataclasses.dataclass(frozen=True)
class Cluster2D:
    """Instance masks: for each plane, the pixels of each cluster; a cluster's number is its position."""

    type: ClassVar[str] = "cluster2d"
    planes: Sequence[Sequence[Pixels]]


@dataclasses.dataclass(frozen=True)
class BBox2D:
    """Upright boxes: for each plane an array [boxes, 4] of centre and half length, each as (wire, tick)."""

    type: ClassVar[str] = "bbox2d"
    planes: Sequence[npt.NDArray[np.floating]]

    def __post_init__(self) -> None:
        if any(boxes.ndim != 2 or boxes.shape[1] != 4 for boxes in self.planes):
            raise ValueError(f"boxes must be arrays [n, 4], not {[boxes.shape for boxes in self.planes]}")


@dataclasses.dataclass(frozen=True)
class Sparse3D:
    """Voxels in space: `shape` their number along x, y, z; `size` and `origin` of the volume in cm."""

    type: ClassVar[str] = "sparse3d"
    voxels: Pixels
    shape: tuple[int, int, int]
    size: tuple[float, float, float]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Particles:
    """True particles: records of type `layout.PARTICLE`, such as `blank_particles` makes."""

    type: ClassVar[str] = "particle"
    records: Records

    def __post_init__(self) -> None:
        if self.records.dtype != PARTICLE or self.records.ndim != 1:
            raise ValueError("particles must be a flat array of layout.PARTICLE records")


AnyProduct = Sparse2D | Cluster2D | BBox2D | Sparse3D | Particles


def blank_particles(count: int) -> Records:
    """Make particle records in the state of a new larcv particle: unknown shape, no parent, no energy."""
    records = np.zeros(count, PARTICLE)
    for name in ("id", "mcst_index", "mct_index", "trackid", "parent_trackid", "ancestor_trackid"):
        records[name] = np.iinfo(PARTICLE[name]).max
    records["shape"] = 2
    for name in ("current_type", "interaction_type", "dist_travel"):
        records[name] = -1
    return records
