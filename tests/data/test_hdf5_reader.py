"""Events as read: equal to plain HDF5 slicing and loops, from any thread, and refused where they are not valid."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmictagger.data.events import Event, EventId, Product
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.layout import PARTICLE as PARTICLE_RECORD
from cosmictagger.errors import UserError

from .builders import (
    IMAGE,
    IMAGE_GROUP,
    LABEL,
    LABEL_GROUP,
    PARTICLE,
    SHAPE,
    edit,
    plane,
    random_planes,
    rewrite,
    slow_downsample,
    write_file,
)

SBND = {"image_producer": "sbndwire", "label_producer": "sbnd_cosmicseg", "particle_producer": "sbndneutrino"}


def open_reader(*files: Path | str, **options) -> Hdf5Reader:
    names = {"image_producer": IMAGE, "label_producer": LABEL, "particle_producer": PARTICLE}
    return Hdf5Reader(files, **(names | options))


def as_lists(event: Event) -> list:
    return [
        [pixels.index.tolist(), pixels.value.tolist(), None if pixels.label is None else pixels.label.tolist()]
        for pixels in event.planes
    ]


@pytest.fixture
def three_events(tmp_path) -> Path:
    return write_file(tmp_path / "three.h5", [random_planes(seed) for seed in range(3)])


def test_what_was_written_is_read(three_events):
    reader = open_reader(three_events)
    assert (len(reader), reader.shape, reader.unmatched_labels) == (3, SHAPE, 0)
    for entry in range(3):
        event = reader.read(entry)
        assert (event.entry, event.event_id, event.shape) == (entry, EventId(1, 20, 300 + entry), SHAPE)
        written = random_planes(entry)
        assert as_lists(event) == [[p.index.tolist(), p.value.tolist(), p.label.tolist()] for p in written]
        assert [(p.index.dtype, p.value.dtype, p.label.dtype) for p in event.planes] == [("i4", "f4", "u1")] * 3


@pytest.mark.parametrize("times", [0, 1, 2, 4])
def test_downsampled_events_equal_a_loop_over_the_files_pixels(three_events, times):
    reader = open_reader(three_events, downsample=times)
    assert reader.shape == (SHAPE[0] >> times, SHAPE[1] >> times)
    assert reader.full_shape == SHAPE
    for row, (ids, values, labels) in enumerate(plain_planes(three_events, IMAGE_GROUP, LABEL_GROUP)):
        pixels = reader.read(row // 3).planes[row % 3]
        averages, _ = slow_downsample(ids, values, SHAPE, times)
        _, largest = slow_downsample(ids, labels, SHAPE, times)
        assert dict(zip(pixels.index.tolist(), pixels.value.tolist(), strict=True)) == averages
        assert dict(zip(pixels.index.tolist(), pixels.label.tolist(), strict=True)) == largest
        assert (np.diff(pixels.index) > 0).all()


def plain_planes(path: Path, image_group: str, label_group: str) -> list:
    """(ids, charges, labels) of every plane in the order of the file, whose images and labels share their ids."""
    with h5py.File(path, "r") as file:
        images, labels = file[f"{image_group}/voxels"][:], file[f"{label_group}/voxels"][:]
        slices = [slice(int(first), int(first + n)) for first, n, _ in file[f"{image_group}/voxel_extents"][:].tolist()]
    return [(images["id"][rows], images["value"][rows], labels["value"][rows]) for rows in slices]


def test_several_files_are_one_list_of_entries(tmp_path):
    for number, events in enumerate([1, 3, 2]):
        write_file(tmp_path / f"{number}.h5", [random_planes(10 * number + entry, pixels=5) for entry in range(events)])
    reader = open_reader(f"{tmp_path}/*.h5")
    assert (len(reader), reader.entries_per_file) == (6, (1, 3, 2))
    assert reader.files == tuple(tmp_path / f"{number}.h5" for number in range(3))
    assert [reader.source(entry) for entry in (0, 1, 3, 4, 5)] == [
        (tmp_path / f"{number}.h5", local) for number, local in ((0, 0), (1, 0), (1, 2), (2, 0), (2, 1))
    ]
    assert reader.describe(4) == f"'{tmp_path / '2.h5'}', entry 0"
    assert reader.read(3).planes[1].index.tolist() == random_planes(12, pixels=5)[1].index.tolist()
    for beyond in (6, -1):
        with pytest.raises(IndexError):
            reader.read(beyond)


def test_eight_threads_read_what_one_reads(three_events, tmp_path):
    shuffled = write_file(tmp_path / "shuffled.h5", [random_planes(seed) for seed in range(3, 6)])
    rewrite(shuffled, f"{IMAGE_GROUP}/voxels", chunks=(7,), compression="gzip", shuffle=True)
    rewrite(three_events, f"{IMAGE_GROUP}/voxels", chunks=(7,), compression="gzip")
    serial = [as_lists(open_reader(three_events, shuffled, downsample=1).read(entry)) for entry in range(6)]
    reader = open_reader(three_events, shuffled, downsample=1)
    entries = np.random.default_rng(0).permutation(np.repeat(np.arange(6), 20)).tolist()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(reader.read, entries))
    assert [as_lists(event) for event in found] == [serial[entry] for entry in entries]
    one = open_reader(three_events, shuffled, downsample=1)
    for entry in range(6):
        one.read(entry)
    assert reader.bytes_read == 20 * one.bytes_read > 0


def test_particles_come_with_their_fields(three_events):
    reader = open_reader(three_events)
    assert [reader.particles(entry)["pdg"].tolist() for entry in range(3)] == [[11], [12, 12], [13, 13, 13]]
    assert reader.particles(0).dtype == PARTICLE_RECORD
    assert reader.particles(0)["vtx"]["x"].tolist() == [0.0]


@pytest.mark.parametrize("producer", ["none", "somebody_else"])
def test_without_particles_in_the_file_there_are_none(three_events, producer):
    particles = open_reader(three_events, particle_producer=producer).particles(1)
    assert (len(particles), particles.dtype) == (0, PARTICLE_RECORD)


def test_products_are_those_that_all_files_hold(three_events, tmp_path):
    write_file(tmp_path / "more.h5", [random_planes(0)])
    with h5py.File(tmp_path / "more.h5", "r+") as file:
        file.copy(LABEL_GROUP, "Data/cluster2d_some_masks_group")
    expected = (Product("particle", PARTICLE), Product("sparse2d", LABEL), Product("sparse2d", IMAGE))
    assert open_reader(three_events, tmp_path / "more.h5").products() == expected
    assert Product("cluster2d", "some_masks") in open_reader(tmp_path / "more.h5").products()


def test_without_a_label_producer_there_are_no_labels(three_events):
    event = open_reader(three_events, label_producer="none").read(0)
    assert [pixels.label for pixels in event.planes] == [None] * 3


# Valid, but unusual.


@pytest.mark.parametrize("times", [0, 1])
@pytest.mark.parametrize("pixels", [[0, 0, 0], [0, 3, 0], [1, 0, 1]])
def test_empty_planes_and_events_have_empty_arrays_of_the_right_types(tmp_path, pixels, times):
    path = write_file(tmp_path / "a.h5", [[plane(range(n)) for n in pixels], random_planes(0)])
    event = open_reader(path, downsample=times).read(0)
    for found, count in zip(event.planes, pixels, strict=True):
        assert bool(len(found.index)) == bool(count)
        assert found.index.shape == found.value.shape == found.label.shape
        assert (found.index.dtype, found.value.dtype, found.label.dtype) == ("i4", "f4", "u1")


def test_a_file_without_any_pixel_is_read(tmp_path):
    path = write_file(tmp_path / "a.h5", [[plane([])] * 3] * 2)
    assert [len(pixels.index) for pixels in open_reader(path).read(1).planes] == [0, 0, 0]


def test_labels_are_matched_by_pixel_not_by_position(tmp_path):
    images = [plane([4, 10, 200], [5, 6, 7])] * 3
    labels = [plane([200, 4], label=[2, 1]), plane([10, 11, 4], label=[1, 2, 2]), plane([])]
    labels = [plane(sorted(p.index), label=p.label[np.argsort(p.index)]) for p in labels]
    reader = open_reader(write_file(tmp_path / "a.h5", [images], labels=[labels]))
    event = reader.read(0)
    assert [pixels.label.tolist() for pixels in event.planes] == [[1, 0, 2], [2, 1, 0], [0, 0, 0]]
    assert [pixels.index.tolist() for pixels in event.planes] == [[4, 10, 200]] * 3
    assert reader.unmatched_labels == 1  # pixel 11 of plane 1
    reader.read(0)
    assert reader.unmatched_labels == 2


def test_labels_of_neighbours_count_for_the_downsampled_pixel(tmp_path):
    # Pixel 1 is not in the image, but in the same block as pixel 0, as in larcv's Downsample; pixel 5 is in no block.
    path = write_file(tmp_path / "a.h5", [[plane([0])] * 3], labels=[[plane([0, 1, 5], label=[1, 2, 2])] * 3])
    reader = open_reader(path, downsample=1)
    assert reader.read(0).planes[0].label.tolist() == [2]
    assert reader.unmatched_labels == 3


@pytest.mark.parametrize("same_in_labels", [True, False])
def test_duplicate_pixels_are_summed_and_keep_the_larger_label(tmp_path, same_in_labels):
    path = write_file(tmp_path / "a.h5", [[plane([0, 1, 2], [5, 6, 7], [1, 2, 0])] * 3])
    edit(path, f"{IMAGE_GROUP}/voxels", lambda rows: rows["id"].__setitem__(1, 0))
    if same_in_labels:
        edit(path, f"{LABEL_GROUP}/voxels", lambda rows: rows["id"].__setitem__(1, 0))
    found = open_reader(path).read(0).planes[0]
    assert (found.index.tolist(), found.value.tolist()) == ([0, 2], [11.0, 7.0])
    assert found.label.tolist() == ([2, 0] if same_in_labels else [1, 0])


def test_planes_are_told_by_their_id_not_by_their_order(tmp_path):
    path = write_file(tmp_path / "a.h5", [random_planes(0)])
    expected = as_lists(open_reader(path).read(0))
    for group in (IMAGE_GROUP, LABEL_GROUP):
        edit(path, f"{group}/voxel_extents", lambda rows: rows.__setitem__(slice(None), rows[[2, 0, 1]]))
    assert as_lists(open_reader(path).read(0)) == expected


def test_fewer_planes_may_be_asked_for(three_events):
    everything = as_lists(open_reader(three_events).read(1))
    assert as_lists(open_reader(three_events, nplanes=2).read(1)) == everything[:2]


def test_a_closed_reader_reads_no_more(three_events):
    reader = open_reader(three_events)
    reader.close()
    with pytest.raises(IndexError):
        reader.source(0)


# Not valid: one line that names what, where and what to do.


def refused(message: str, *files: Path | str, entry: int | None = None, **options) -> None:
    with pytest.raises(UserError, match=message) as caught:
        reader = open_reader(*files, **options)
        if entry is not None:
            reader.read(entry)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "shown"), [(3, "3"), (-1, "-1"), (0.5, "0.5"), (np.nan, "nan")])
def test_labels_other_than_the_classes_are_refused(three_events, value, shown):
    edit(three_events, f"{LABEL_GROUP}/voxels", lambda rows: rows["value"].__setitem__(120 + 45, value))
    refused(rf"three\.h5', entry 1, plane 1: label {shown} is not one of \(0, 1, 2\)\.", three_events, entry=1)
    open_reader(three_events).read(0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_charges_that_are_not_finite_are_refused(three_events, value):
    edit(three_events, f"{IMAGE_GROUP}/voxels", lambda rows: rows["value"].__setitem__(-1, value))
    refused(rf"three\.h5', entry 2, plane 2: charge {value} is not finite", three_events, entry=2)


@pytest.mark.parametrize("group", [IMAGE_GROUP, LABEL_GROUP])
@pytest.mark.parametrize("pixel", [SHAPE[0] * SHAPE[1], 2**32, 2**63])
def test_pixels_outside_the_image_are_refused(three_events, group, pixel):
    edit(three_events, f"{group}/voxels", lambda rows: rows["id"].__setitem__(119, pixel))
    refused(r"entry 0, plane 2: a pixel lies outside the image of 512 pixels", three_events, entry=0)


def test_a_missing_plane_is_refused(tmp_path):
    path = write_file(tmp_path / "a.h5", [random_planes(entry, planes=2) for entry in range(2)])
    refused(r"a\.h5', entry 0: 'wire' has 2 of 3 planes \(0, 1\); .* Set --nplanes", path)
    assert len(open_reader(path, nplanes=2).read(1).planes) == 2


def test_a_plane_whose_meta_is_not_valid_is_missing(three_events):
    edit(three_events, f"{IMAGE_GROUP}/image_meta", lambda rows: rows["valid"].__setitem__(4, 0))
    refused(r"entry 1: 'wire' has 2 of 3 planes \(0, 2\)", three_events)


def test_a_plane_that_comes_twice_is_refused(three_events):
    edit(three_events, f"{LABEL_GROUP}/voxel_extents", lambda rows: rows["ID"].__setitem__(8, 1))
    refused(r"entry 2: 'seg' has 3 of 3 planes \(0, 1, 1\); each must be there once", three_events)


def test_an_event_without_planes_is_refused(three_events):
    edit(three_events, f"{IMAGE_GROUP}/extents", lambda rows: rows["N"].__setitem__(1, 0))
    refused(r"entry 1: 'wire' has 0 of 3 planes \(none\)", three_events)


def test_planes_of_different_size_are_refused(three_events):
    edit(three_events, f"{IMAGE_GROUP}/image_meta", lambda rows: rows["number_of_voxels"].__setitem__(5, (64, 16)))
    refused(r"entry 1, plane 2: 'wire' is 64 wires x 16 ticks, the planes before are 32 x 16", three_events)


def test_files_of_different_size_are_refused(three_events, tmp_path):
    other = write_file(tmp_path / "other.h5", [random_planes(0)], shape=(32, 32))
    refused(
        r"other\.h5': its images are 32 ticks x 32 wires, but the images of '.*three\.h5' are 16 ticks x 32 wires",
        three_events,
        other,
    )


def test_labels_of_another_size_than_the_images_are_refused(three_events):
    edit(
        three_events,
        f"{LABEL_GROUP}/image_meta",
        lambda rows: rows["number_of_voxels"].__setitem__(slice(None), (32, 8)),
    )
    refused(r"its labels are 8 ticks x 32 wires, but the images", three_events)


@pytest.mark.parametrize("size", [(0, 16), (2**20, 2**20)])
def test_images_without_pixels_or_beyond_int32_are_refused(three_events, size):
    edit(
        three_events, f"{IMAGE_GROUP}/image_meta", lambda rows: rows["number_of_voxels"].__setitem__(slice(None), size)
    )
    refused(f"images of {size[0]} wires x {size[1]} ticks cannot be read", three_events)


def test_downsampling_that_does_not_divide_the_image_is_refused(three_events):
    refused(r"--downsample: .* cannot be halved 5 times; take 0 or 1 or 2 or 3 or 4\.", three_events, downsample=5)


def test_an_unknown_image_producer_is_refused_with_the_known_ones(three_events):
    refused(
        r"has no sparse2d by producer 'wires'; it has seg, wire \(did you mean 'wire'\?\)\.",
        three_events,
        image_producer="wires",
    )


def test_an_unknown_label_producer_is_refused(three_events):
    refused(r"has no sparse2d by producer 'xyz'; it has seg, wire\.", three_events, label_producer="xyz")


def test_a_file_without_images_is_refused(three_events):
    with h5py.File(three_events, "r+") as file:
        del file[IMAGE_GROUP], file[LABEL_GROUP]
    refused("has no sparse2d by producer 'wire'; it has none at all", three_events)


@pytest.mark.parametrize("missing", ["Events", "Data"])
def test_other_hdf5_files_are_refused(three_events, missing):
    with h5py.File(three_events, "r+") as file:
        del file[missing]
    refused("is not a larcv3 file: it lacks 'Events/event_id' or 'Data'", three_events)


def test_a_missing_table_is_refused(three_events):
    with h5py.File(three_events, "r+") as file:
        del file[f"{IMAGE_GROUP}/image_meta"]
    refused("is not a larcv3 file: '/Data/sparse2d_wire_group' has no table 'image_meta'", three_events)


def test_a_table_without_its_fields_is_refused(three_events):
    rewrite(three_events, f"{IMAGE_GROUP}/voxels", np.zeros(3))
    refused("is not a larcv3 file: '/Data/sparse2d_wire_group/voxels' has no field 'id'", three_events)


def test_a_file_without_events_is_refused(tmp_path):
    refused("holds no events", write_file(tmp_path / "a.h5", []))


@pytest.mark.parametrize("table", ["extents", "voxel_extents", "image_meta", "voxels"])
def test_tables_of_different_lengths_are_refused(three_events, table):
    name = f"{IMAGE_GROUP}/{table}"
    with h5py.File(three_events, "r") as file:
        rows = file[name][:-1]
    rewrite(three_events, name, rows)
    refused("the tables of '/Data/sparse2d_wire_group' do not fit each other or the 3 events", three_events)


def test_particle_tables_that_do_not_fit_are_refused(three_events):
    edit(three_events, f"Data/particle_{PARTICLE}_group/extents", lambda rows: rows["N"].__setitem__(2, 4))
    refused("the tables of '/Data/particle_neutrino_group' do not fit", three_events)


@pytest.mark.parametrize("content", [b"", b"root\0\0\0 but not HDF5" * 100])
def test_files_that_are_not_hdf5_are_refused(tmp_path, content):
    (tmp_path / "a.h5").write_bytes(content)
    refused(r"a\.h5' is not an HDF5 file", tmp_path / "a.h5")


def test_a_truncated_file_is_refused(three_events):
    os.truncate(three_events, three_events.stat().st_size // 2)
    refused(r"Cannot open '.*three\.h5' as HDF5 \(.*truncated file.*\); if it is incomplete", three_events)


def test_a_damaged_chunk_is_found_when_its_entry_is_read(three_events):
    rewrite(three_events, f"{IMAGE_GROUP}/voxels", chunks=(120,), compression="gzip")
    with h5py.File(three_events, "r+") as file:
        file[f"{IMAGE_GROUP}/voxels"].id.write_direct_chunk((120,), b"not deflated")
    refused("cannot read '/Data/sparse2d_wire_group/voxels' at row 120; copy the file again", three_events, entry=1)
    open_reader(three_events).read(2)


def test_a_damaged_small_table_is_refused(three_events):
    with h5py.File(three_events, "r+") as file:
        file[f"{IMAGE_GROUP}/extents"].id.write_direct_chunk((0,), b"not deflated")
    refused("cannot read '/Data/sparse2d_wire_group/extents'; copy", three_events)


def test_a_file_that_may_not_be_read_is_refused(three_events, monkeypatch):
    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    refused(r"Cannot read '.*three\.h5': Permission denied", three_events)


# The SBND sample.


def test_the_sample_holds_what_is_known_of_it(sbnd_sample):
    reader = Hdf5Reader([sbnd_sample], **SBND)
    assert (len(reader), reader.shape) == (3, (1280, 2048))
    events = [reader.read(entry) for entry in range(3)]
    assert [len(p.index) for p in events[0].planes] == [23223, 23171, 10084]
    assert sum(len(p.index) for event in events for p in event.planes) == 175_729
    assert 5 < min(p.value.min() for event in events for p in event.planes) < 5.1
    labels = np.concatenate([p.label for event in events for p in event.planes])
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert reader.unmatched_labels == 0
    assert events[0].event_id == EventId(-1, -1, -1)
    assert [p[0]["pdg"] for p in map(reader.particles, range(3))] == [14, 12, 12]
    assert reader.particles(0)["energy_init"][0] == pytest.approx(1.39, abs=0.005)
    first = events[0].planes[0]  # id 40786 in the file: wire 31, tick 1106
    assert first.value[first.index.tolist().index(1106 * 2048 + 31)] == np.float32(5.7113414)


@pytest.mark.parametrize("times", [0, 1, 3])
def test_the_sample_downsampled_equals_a_loop(sbnd_sample, times):
    reader = Hdf5Reader([sbnd_sample], **SBND, downsample=times)
    groups = [f"Data/sparse2d_{SBND[f'{what}_producer']}_group" for what in ("image", "label")]
    ids, values, labels = plain_planes(sbnd_sample, *groups)[4]
    pixels = reader.read(1).planes[1]
    averages, _ = slow_downsample(ids, values, (1280, 2048), times)
    _, largest = slow_downsample(ids, labels, (1280, 2048), times)
    assert dict(zip(pixels.index.tolist(), pixels.value.tolist(), strict=True)) == averages
    assert dict(zip(pixels.index.tolist(), pixels.label.tolist(), strict=True)) == largest
