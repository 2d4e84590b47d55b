"""Fixed-size batches: one contiguous record an image, so that equal shares can be scattered without packing."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.errors import UserError

PADDING = -1  # the entry of a record that holds no image, and the index of an unused pixel slot

# Structured arrays with the fields of `image_dtype`.
Records = npt.NDArray[np.void]


def image_dtype(planes: int, max_voxels: int) -> "np.dtype[np.void]":
    """Describe the record of one image: ids, pixel counts, and `max_voxels` pixel slots a plane.

    Fields: entry i8, event_id i8[3], count i4[planes], and index i4, value f4, label u1, each
    [planes, max_voxels]. Aligned, so that every field of an array of records is a valid strided array.
    """
    slots = (planes, max_voxels)
    fields: list[Any] = [
        ("entry", "i8"),
        ("event_id", "i8", (3,)),
        ("count", "i4", (planes,)),
        ("index", "i4", slots),
        ("value", "f4", slots),
        ("label", "u1", slots),
    ]
    return np.dtype(fields, align=True)


def allocate(images: int, dtype: "np.dtype[np.void]") -> Records:
    """Make a batch of `images` empty records."""
    records = np.zeros(images, dtype)
    records["index"] = PADDING
    records["entry"] = PADDING
    return records


def pack(event: Event, record: Any, on_overflow: Literal["error", "truncate"], source: str = "") -> int:
    """Copy an event into one record of a batch and return how many pixels did not fit.

    Slots beyond the pixel count are cleared only where the record's last image had used them. Raises
    UserError, naming `source`, where a plane has more pixels than slots and `on_overflow` is "error".
    """
    slots = record["index"].shape[1]
    record["entry"] = event.entry
    record["event_id"] = event.event_id
    lost = 0
    for plane, pixels in enumerate(event.planes):
        count = len(pixels.index)
        if count > slots:
            if on_overflow == "error":
                raise UserError(_overflow(source, event.entry, plane, count, slots))
            lost, count = lost + count - slots, slots
        used = max(int(record["count"][plane]), count)
        for name, values, empty in (
            ("index", pixels.index, PADDING),
            ("value", pixels.value, 0),
            ("label", pixels.label, 0),
        ):
            slot = record[name][plane]
            slot[:count] = 0 if values is None else values[:count]
            slot[count:used] = empty
        record["count"][plane] = count
    return lost


def clear(record: Any) -> None:
    """Turn a record into padding: no image, no pixels."""
    record["entry"] = PADDING
    record["event_id"] = PADDING
    record["count"] = 0
    record["index"] = PADDING
    record["value"] = 0
    record["label"] = 0


def unpack(record: Any, shape: tuple[int, int]) -> Event:
    """Take an event of image `shape` back out of its record; the arrays are views of the record."""
    planes = tuple(
        PlanePixels(record["index"][plane, :count], record["value"][plane, :count], record["label"][plane, :count])
        for plane, count in enumerate(record["count"].tolist())
    )
    return Event(int(record["entry"]), EventId(*record["event_id"].tolist()), shape, planes)


def _overflow(source: str, entry: int, plane: int, count: int, slots: int) -> str:
    return (
        f"{source or f'entry {entry}'}: plane {plane} has {count} pixels and --max-voxels is {slots}; "
        f"raise it to {count} or more, or take --on-overflow truncate."
    )
