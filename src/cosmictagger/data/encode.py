"""Products turned into the rows of their larcv3 tables."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from cosmictagger.data import layout
from cosmictagger.data.downsample import group
from cosmictagger.data.growing_table import GrowingTable
from cosmictagger.data.layout import Records
from cosmictagger.data.products import BBox2D, Cluster2D, Particles, Pixels, Sparse2D, Sparse3D

Tables = Mapping[str, GrowingTable]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneGeometry:
    """The images of a file: `shape` is (ticks, wires); `size` and `origin` are (wire, tick), in larcv's order."""

    shape: tuple[int, int]
    size: tuple[float, float]
    origin: tuple[float, float] = (0.0, 0.0)


def put_sparse2d(tables: Tables, product: Sparse2D, geometry: PlaneGeometry) -> None:
    """Append the planes of one event."""
    voxels = [_plane_voxels(pixels, geometry.shape) for pixels in product.planes]
    _put_event(tables, "voxel_extents", len(voxels))
    tables["image_meta"].append(_plane_metas(len(voxels), geometry))
    tables["voxel_extents"].append(_id_extents(voxels, len(tables["voxels"])))
    _append_all(tables["voxels"], voxels)


def put_cluster2d(tables: Tables, product: Cluster2D, geometry: PlaneGeometry) -> None:
    """Append the clusters of one event's planes."""
    planes = [[_plane_voxels(pixels, geometry.shape) for pixels in clusters] for clusters in product.planes]
    _put_event(tables, "projection_extents", len(planes))
    tables["image_meta"].append(_plane_metas(len(planes), geometry))
    tables["projection_extents"].append(_id_extents(planes, len(tables["cluster_extents"])))
    for clusters in planes:
        tables["cluster_extents"].append(_id_extents(clusters, len(tables["voxels"])))
        _append_all(tables["voxels"], clusters)


def put_bbox2d(tables: Tables, product: BBox2D, geometry: PlaneGeometry) -> None:
    """Append the boxes of one event's planes."""
    boxes = [_boxes(plane) for plane in product.planes]
    _put_event(tables, "bbox_extents", len(boxes))
    tables["image_meta"].append(_plane_metas(len(boxes), geometry))
    tables["bbox_extents"].append(_id_extents(boxes, len(tables["bboxes"])))
    _append_all(tables["bboxes"], boxes)


def put_sparse3d(tables: Tables, product: Sparse3D, geometry: PlaneGeometry) -> None:
    """Append the voxels of one event; they carry a geometry of their own."""
    meta = np.zeros(1, layout.IMAGE_META_3D)
    meta["valid"] = 1
    meta["number_of_voxels"], meta["image_sizes"], meta["origin"] = product.shape, product.size, product.origin
    voxels = _space_voxels(product.voxels, math.prod(product.shape))
    _put_event(tables, "voxel_extents", 1)
    tables["image_meta"].append(meta)
    tables["voxel_extents"].append(_id_extents([voxels], len(tables["voxels"])))
    tables["voxels"].append(voxels)


def put_particles(tables: Tables, product: Particles, geometry: PlaneGeometry) -> None:
    """Append the particles of one event."""
    _put_event(tables, "particles", len(product.records))
    tables["particles"].append(product.records.copy())


PUT: dict[type[Any], Callable[[Tables, Any, PlaneGeometry], None]] = {
    Sparse2D: put_sparse2d,
    Cluster2D: put_cluster2d,
    BBox2D: put_bbox2d,
    Sparse3D: put_sparse3d,
    Particles: put_particles,
}


def _put_event(tables: Tables, below: str, count: int) -> None:
    """Append the event's slice of the table `below`, before that table gets its rows."""
    row = np.zeros(1, layout.EXTENTS)
    row["first"], row["N"] = len(tables[below]), count
    tables["extents"].append(row)


def _id_extents(parts: Sequence[Sequence[Any] | Records], first: int) -> Records:
    """Describe consecutive slices, one for each part, of a table that is `first` rows long so far."""
    rows = np.zeros(len(parts), layout.ID_EXTENTS)
    rows["N"] = [len(part) for part in parts]
    rows["ID"] = np.arange(len(parts))
    rows["first"] = first + np.cumsum(rows["N"], dtype=np.uint64) - rows["N"]
    return rows


def _append_all(table: GrowingTable, parts: Sequence[Records]) -> None:
    for part in parts:
        table.append(part)


def _plane_metas(planes: int, geometry: PlaneGeometry) -> Records:
    ticks, wires = geometry.shape
    rows = np.zeros(planes, layout.IMAGE_META_2D)
    rows["valid"] = 1
    rows["projection_id"] = np.arange(planes)
    rows["number_of_voxels"], rows["image_sizes"], rows["origin"] = (wires, ticks), geometry.size, geometry.origin
    return rows


def _plane_voxels(pixels: Pixels, shape: tuple[int, int]) -> Records:
    size = shape[0] * shape[1]
    _check_range(pixels.index, size)
    blocks = group(pixels.index.astype(np.int32 if size < 2**31 else np.int64, copy=False), shape)
    return _voxel_rows(blocks.index, pixels.value[blocks.order])


def _space_voxels(pixels: Pixels, size: int) -> Records:
    _check_range(pixels.index, size)
    order = np.argsort(pixels.index)
    return _voxel_rows(pixels.index[order], pixels.value[order])


def _check_range(index: npt.NDArray[Any], size: int) -> None:
    if len(index) and not 0 <= index.min() <= index.max() < size:
        raise ValueError(f"pixels {index.min()} to {index.max()} do not lie within an image of {size} pixels")


def _voxel_rows(ids: npt.NDArray[Any], values: npt.NDArray[Any]) -> Records:
    """Make voxel rows from ascending ids, as larcv keeps them; ValueError where an id comes twice."""
    if len(ids) < len(values) or (ids[1:] == ids[:-1]).any():
        raise ValueError("a pixel is given twice")
    rows = np.zeros(len(ids), layout.VOXEL)
    rows["id"], rows["value"] = ids, values
    return rows


def _boxes(boxes: npt.NDArray[np.floating]) -> Records:
    rows = np.zeros(len(boxes), layout.BBOX_2D)
    rows["centroid"], rows["half_length"] = boxes[:, :2], boxes[:, 2:]
    rows["rotation"] = (1, 0, 0, 1)
    return rows
