"""The larcv3 layout as data: record types and, for every product type, its tables and their chunk lengths.

All record types are larcv's C structures, padding included, so that files compare equal record by record.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]

EVENT_ID_PATH = "Events/event_id"
DATA_GROUP = "Data"


def group_path(product_type: str, producer: str) -> str:
    """Name the HDF5 group of a product, such as ``Data/sparse2d_sbndwire_group``."""
    return f"{DATA_GROUP}/{product_type}_{producer}_group"


def _record(names: str, formats: list[Any], offsets: list[int], size: int) -> np.dtype[np.void]:
    return np.dtype({"names": names.split(), "formats": formats, "offsets": offsets, "itemsize": size})


def _image_meta(dimension: int) -> np.dtype[np.void]:
    array = 8 * dimension
    return _record(
        "valid projection_id image_sizes number_of_voxels origin",
        ["u1", "u8", ("f8", (dimension,)), ("u8", (dimension,)), ("f8", (dimension,))],
        [0, 8, 16, 16 + array, 16 + 2 * array],
        24 + 3 * array,  # larcv's structure ends with a unit that it does not store
    )


EVENT_ID = np.dtype([("run", "i8"), ("subrun", "i8"), ("event", "i8")])
EXTENTS = _record("first N", ["u8", "u4"], [0, 8], 16)
ID_EXTENTS = _record("first N ID", ["u8", "u4", "u4"], [0, 8, 12], 16)
VOXEL = _record("id value", ["u8", "f4"], [0, 8], 16)
IMAGE_META_2D = _image_meta(2)
IMAGE_META_3D = _image_meta(3)
BBOX_2D = np.dtype([("centroid", "f8", (2,)), ("half_length", "f8", (2,)), ("rotation", "f8", (4,))])
VERTEX = np.dtype([("x", "f8"), ("y", "f8"), ("z", "f8"), ("t", "f8")])
PARTICLE = np.dtype(
    [
        ("id", "u2"),
        ("mcst_index", "u2"),
        ("mct_index", "u2"),
        ("shape", "i4"),
        ("current_type", "i2"),
        ("interaction_type", "i2"),
        ("trackid", "u4"),
        ("pdg", "i4"),
        ("px", "f8"),
        ("py", "f8"),
        ("pz", "f8"),
        ("vtx", VERTEX),
        ("end_pt", VERTEX),
        ("first_step", VERTEX),
        ("last_step", VERTEX),
        ("dist_travel", "f8"),
        ("energy_init", "f8"),
        ("energy_deposit", "f8"),
        ("process", "S64"),
        ("parent_trackid", "u4"),
        ("parent_pdg", "i4"),
        ("parent_vtx", VERTEX),
        ("ancestor_trackid", "u4"),
        ("ancestor_pdg", "i4"),
        ("ancestor_vtx", VERTEX),
    ],
    align=True,
)


class TableLayout(NamedTuple):
    """A table: its name within the group, record type, and rows in a chunk."""

    name: str
    dtype: np.dtype[np.void]
    chunk: int


EVENT_ID_TABLE = TableLayout("event_id", EVENT_ID, 100)

_SPARSE_2D = (
    TableLayout("extents", EXTENTS, 10),
    TableLayout("voxel_extents", ID_EXTENTS, 100),
    TableLayout("image_meta", IMAGE_META_2D, 100),
    TableLayout("voxels", VOXEL, 1000),
)

PRODUCT_TABLES: dict[str, tuple[TableLayout, ...]] = {
    "sparse2d": _SPARSE_2D,
    "sparse3d": tuple(t._replace(dtype=IMAGE_META_3D) if t.name == "image_meta" else t for t in _SPARSE_2D),
    "particle": (TableLayout("extents", EXTENTS, 100), TableLayout("particles", PARTICLE, 500)),
    "cluster2d": (
        TableLayout("extents", EXTENTS, 10),
        TableLayout("projection_extents", ID_EXTENTS, 100),
        TableLayout("image_meta", IMAGE_META_2D, 100),
        TableLayout("cluster_extents", ID_EXTENTS, 100),
        TableLayout("voxels", VOXEL, 1000),
    ),
    "bbox2d": (
        TableLayout("extents", EXTENTS, 1),
        TableLayout("image_meta", IMAGE_META_2D, 100),
        TableLayout("bbox_extents", ID_EXTENTS, 1),
        TableLayout("bboxes", BBOX_2D, 1000),
    ),
}
