"""Records of fixed size: what goes in comes out, and a reused record keeps nothing of the last image."""

import numpy as np
import pytest

from cosmictagger.data.batch import PADDING, allocate, clear, image_dtype, pack
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.errors import UserError

SLOTS = 6


def event(*counts: int, entry: int = 4, labels: bool = True) -> Event:
    planes = tuple(
        PlanePixels(
            index=np.arange(1, n + 1, dtype=np.int32) * 10,
            value=np.linspace(5, 9, n, dtype=np.float32),
            label=np.full(n, 2, np.uint8) if labels else None,
        )
        for n in counts
    )
    return Event(entry, EventId(1, 2, 3), (64, 64), planes)


def one_record(planes: int = 3) -> np.ndarray:
    return allocate(1, image_dtype(planes, SLOTS))


@pytest.mark.parametrize("max_voxels", [1, 5, 35000])
def test_records_are_aligned_so_that_each_field_is_a_plain_strided_array(max_voxels):
    dtype = image_dtype(3, max_voxels)
    assert dtype.itemsize % 8 == 0
    assert all(offset % kind.base.itemsize == 0 for kind, offset, *_ in dtype.fields.values())


def test_an_event_is_packed_whole():
    records = one_record()
    assert pack(event(2, 0, 6), records[0], "error") == 0
    assert records["entry"][0] == 4
    assert records["event_id"][0].tolist() == [1, 2, 3]
    assert records["count"][0].tolist() == [2, 0, 6]
    assert records["index"][0, 0].tolist() == [10, 20, PADDING, PADDING, PADDING, PADDING]
    assert records["value"][0, 0].tolist() == [5, 9, 0, 0, 0, 0]
    assert records["label"][0, 2].tolist() == [2] * 6
    assert (records["index"][0, 1] == PADDING).all()


def test_a_reused_record_keeps_nothing_of_the_last_image():
    records, fresh = one_record(), one_record()
    pack(event(6, 6, 6), records[0], "error")
    pack(event(1, 0, 3, entry=5, labels=False), records[0], "error")
    pack(event(1, 0, 3, entry=5, labels=False), fresh[0], "error")
    assert records.tobytes() == fresh.tobytes()


def test_a_cleared_record_is_a_new_one():
    records = one_record()
    pack(event(6, 1, 0), records[0], "error")
    clear(records[0])
    assert (records["entry"][0], records["count"][0].tolist()) == (PADDING, [0, 0, 0])
    assert (records["index"] == PADDING).all()
    assert not records["value"].any()
    assert not records["label"].any()


def test_overflow_names_source_plane_count_and_flag():
    with pytest.raises(UserError) as caught:
        pack(event(2, 7, 1), one_record()[0], "error", "'a.h5' entry 4")
    assert str(caught.value) == (
        "'a.h5' entry 4: plane 1 has 7 pixels and --max-voxels is 6; raise it to 7 or more, or take --on-overflow truncate."
    )


def test_truncation_is_counted():
    records = one_record()
    assert pack(event(8, 7, 1), records[0], "truncate") == 3
    assert records["count"][0].tolist() == [6, 6, 1]
