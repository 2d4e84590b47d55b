"""Files as written: table by table the layout of larcv3, whole or not at all."""

import resource
import signal
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmictagger.data import layout
from cosmictagger.data.events import EventId, Product
from cosmictagger.data.products import BBox2D, Cluster2D, Particles, Pixels, Sparse2D, Sparse3D, blank_particles
from cosmictagger.data.writer import LarcvWriter
from cosmictagger.errors import UserError

from .builders import IMAGE, IMAGE_GROUP, SHAPE, plane, random_planes, write_file

IMAGES = Product("sparse2d", IMAGE)
MEBIBYTE = 1 << 20


def pixels(index, value=None) -> Pixels:
    return Pixels(
        np.array(index, np.int64), np.ones(len(index), np.float32) if value is None else np.array(value, np.float32)
    )


def sparse(*planes) -> Sparse2D:
    return Sparse2D([pixels(index) for index in planes])


def write(path: Path, *events: dict, read_back: bool = True, **options) -> dict[str, np.ndarray]:
    """Write events of the given products and return every table of the file by name."""
    with LarcvWriter(path, shape=SHAPE, **options) as writer:
        for number, products in enumerate(events):
            writer.append(EventId(1, 2, number), products)
    return tables(path) if read_back else {}


def tables(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path, "r") as file:
        file.visititems(lambda name, item: found.update({name: item[:]}) if isinstance(item, h5py.Dataset) else None)
    return found


def rows(table: np.ndarray) -> list:
    return [tuple(np.asarray(field).tolist() for field in row) for row in table]


def test_images_become_the_four_tables_of_sparse2d(tmp_path):
    # Pixel tick * 32 + wire of an image of 16 ticks x 32 wires has id wire * 16 + tick in the file.
    first = Sparse2D([pixels([33, 2], [7, 8]), pixels([])])
    found = write(tmp_path / "a.h5", {IMAGES: first}, {IMAGES: sparse([511], [0, 32])})
    assert rows(found["Events/event_id"]) == [(1, 2, 0), (1, 2, 1)]
    assert rows(found[f"{IMAGE_GROUP}/extents"]) == [(0, 2), (2, 2)]
    assert rows(found[f"{IMAGE_GROUP}/voxel_extents"]) == [(0, 2, 0), (2, 0, 1), (2, 1, 0), (3, 2, 1)]
    assert rows(found[f"{IMAGE_GROUP}/voxels"]) == [(17, 7), (32, 8), (511, 1), (0, 1), (1, 1)]
    meta = (1, 0, [32.0, 16.0], [32, 16], [0.0, 0.0])
    assert rows(found[f"{IMAGE_GROUP}/image_meta"]) == [meta, (1, 1, *meta[2:])] * 2


def test_the_image_may_have_a_physical_size_and_origin(tmp_path):
    found = write(tmp_path / "a.h5", {IMAGES: sparse([1])}, size=(9.6, 8.0), origin=(-4.0, 2.0))
    assert rows(found[f"{IMAGE_GROUP}/image_meta"]) == [(1, 0, [9.6, 8.0], [32, 16], [-4.0, 2.0])]


def test_clusters_become_the_five_tables_of_cluster2d(tmp_path):
    clusters = Cluster2D([[pixels([0, 1]), pixels([]), pixels([5])], [], [pixels([2])]])
    found = write(tmp_path / "a.h5", *[{Product("cluster2d", "masks"): clusters}] * 2)
    group = "Data/cluster2d_masks_group"
    assert rows(found[f"{group}/extents"]) == [(0, 3), (3, 3)]
    assert rows(found[f"{group}/projection_extents"]) == [
        (0, 3, 0),
        (3, 0, 1),
        (3, 1, 2),
        (4, 3, 0),
        (7, 0, 1),
        (7, 1, 2),
    ]
    assert rows(found[f"{group}/cluster_extents"])[:5] == [(0, 2, 0), (2, 0, 1), (2, 1, 2), (3, 1, 0), (4, 2, 0)]
    assert found[f"{group}/voxels"]["id"].tolist() == [0, 16, 80, 32] * 2
    assert found[f"{group}/image_meta"]["projection_id"].tolist() == [0, 1, 2] * 2


def test_boxes_become_the_four_tables_of_bbox2d(tmp_path):
    boxes = BBox2D([np.array([[10.0, 5, 2, 1]]), np.zeros((0, 4)), np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]])])
    found = write(tmp_path / "a.h5", *[{Product("bbox2d", "boxes"): boxes}] * 2)
    group = "Data/bbox2d_boxes_group"
    assert rows(found[f"{group}/extents"]) == [(0, 3), (3, 3)]
    assert rows(found[f"{group}/bbox_extents"]) == [(0, 1, 0), (1, 0, 1), (1, 2, 2), (3, 1, 0), (4, 0, 1), (4, 2, 2)]
    assert rows(found[f"{group}/bboxes"])[:2] == [([10, 5], [2, 1], [1, 0, 0, 1]), ([1, 2], [3, 4], [1, 0, 0, 1])]
    assert len(found[f"{group}/image_meta"]) == 6


def test_voxels_become_the_four_tables_of_sparse3d(tmp_path):
    space = Sparse3D(pixels([59, 0], [2, 3]), shape=(3, 4, 5), size=(30.0, 20.0, 50.0), origin=(-15.0, 0.0, 1.0))
    found = write(tmp_path / "a.h5", *[{Product("sparse3d", "truth"): space}] * 2)
    group = "Data/sparse3d_truth_group"
    assert rows(found[f"{group}/voxels"]) == [(0, 3), (59, 2)] * 2
    assert rows(found[f"{group}/voxel_extents"]) == [(0, 2, 0), (2, 2, 0)]
    assert rows(found[f"{group}/image_meta"])[0] == (1, 0, [30.0, 20.0, 50.0], [3, 4, 5], [-15.0, 0.0, 1.0])


def test_particles_become_two_tables_and_start_as_larcv_starts_them(tmp_path):
    name = Product("particle", "neutrino")
    found = write(tmp_path / "a.h5", {name: Particles(blank_particles(2))}, {name: Particles(blank_particles(0))})
    assert rows(found["Data/particle_neutrino_group/extents"]) == [(0, 2), (2, 0)]
    record = found["Data/particle_neutrino_group/particles"][1]
    assert [record[key].item() for key in ("id", "trackid", "shape", "current_type", "dist_travel", "pdg")] == [
        65535,
        2**32 - 1,
        2,
        -1,
        -1.0,
        0,
    ]


def test_record_sizes_are_those_of_larcvs_structures():
    sizes = {table: table_layout.dtype.itemsize for table, table_layout in every_table()}
    assert sizes["particle/particles"] == 344
    assert (sizes["sparse2d/voxels"], sizes["sparse2d/extents"], sizes["sparse2d/voxel_extents"]) == (16, 16, 16)
    assert (sizes["sparse2d/image_meta"], sizes["sparse3d/image_meta"], sizes["bbox2d/bboxes"]) == (72, 96, 64)


def every_table() -> list[tuple[str, layout.TableLayout]]:
    return [(f"{kind}/{table.name}", table) for kind, group in layout.PRODUCT_TABLES.items() for table in group]


def test_types_chunks_filters_and_growth_are_those_of_the_sample(sbnd_sample):
    with h5py.File(sbnd_sample, "r", locking=False) as sample:
        checked = {check_like(sample["Events/event_id"], layout.EVENT_ID_TABLE)}
        for group in sample["Data"].values():
            kind = group.name.split("/")[-1].split("_")[0]
            assert set(group) == {table.name for table in layout.PRODUCT_TABLES[kind]}
            checked |= {check_like(group[table.name], table) for table in layout.PRODUCT_TABLES[kind]}
    assert len(checked) > 8


def check_like(dataset: h5py.Dataset, table: layout.TableLayout) -> str:
    assert dataset.dtype == table.dtype
    assert dataset.dtype.itemsize == table.dtype.itemsize
    assert h5py.h5t.py_create(table.dtype, logical=True).equal(dataset.id.get_type())
    assert dataset.chunks == (table.chunk,)
    return dataset.name


def test_tables_are_stored_as_larcv_stores_them(tmp_path, sbnd_sample):
    write_file(tmp_path / "a.h5", [random_planes(0)])
    with h5py.File(tmp_path / "a.h5", "r") as file, h5py.File(sbnd_sample, "r", locking=False) as sample:
        for table in ("extents", "voxel_extents", "image_meta", "voxels"):
            ours, theirs = file[f"{IMAGE_GROUP}/{table}"], sample[f"Data/sparse2d_sbndwire_group/{table}"]
            for key in ("dtype", "chunks", "maxshape", "compression", "compression_opts", "shuffle", "fletcher32"):
                assert getattr(ours, key) == getattr(theirs, key)
            assert dict(ours.attrs) == dict(theirs.attrs) == {}


@pytest.mark.parametrize("compression", [0, 1, 2, 3])
def test_more_rows_than_a_slab_come_back_at_every_compression(tmp_path, compression):
    events = [[plane(np.arange(entry % 500))] * 3 for entry in range(0, 3000, 37)]
    write_file(tmp_path / "a.h5", events, compression=compression)
    found = tables(tmp_path / "a.h5")
    counts = [len(planes[0].index) for planes in events for _ in range(3)]
    assert found[f"{IMAGE_GROUP}/voxel_extents"]["N"].tolist() == counts
    assert found[f"{IMAGE_GROUP}/voxel_extents"]["first"].tolist() == [0, *np.cumsum(counts)[:-1].tolist()]
    charges = np.split(found[f"{IMAGE_GROUP}/voxels"]["value"], np.cumsum(counts)[:-1])
    assert [np.sort(values).tolist() for values in charges] == [[5.0 + i for i in range(n)] for n in counts]
    with h5py.File(tmp_path / "a.h5", "r") as file:
        assert file[f"{IMAGE_GROUP}/voxels"].compression == ("gzip" if compression else None)


def test_padding_inside_records_is_zero(tmp_path):
    write(tmp_path / "a.h5", {IMAGES: sparse([1, 2, 3])})
    with h5py.File(tmp_path / "a.h5", "r") as file:
        raw = file[f"{IMAGE_GROUP}/voxels"][:].tobytes()
    assert [raw[16 * row + 12 : 16 * row + 16] for row in range(3)] == [bytes(4)] * 3


def test_the_same_events_give_the_same_bytes(tmp_path):
    first, second = (write_file(tmp_path / name, [random_planes(0), random_planes(1)]) for name in ("a.h5", "b.h5"))
    assert first.read_bytes() == second.read_bytes()


def test_memory_does_not_grow_with_the_number_of_events(tmp_path):
    event = {IMAGES: Sparse2D.charges(random_planes(0, pixels=400))}

    def peak(events: int) -> int:
        tracemalloc.start()
        write(tmp_path / "a.h5", *[event] * events, read_back=False)
        _, high = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return high

    peak(20)  # warm up
    assert peak(600) < peak(60) + MEBIBYTE  # 540 more events hold 10 MiB


# Whole or not at all.


def test_the_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "a.h5"
    path.write_text("an earlier file")
    with LarcvWriter(path, shape=SHAPE) as writer:
        writer.append(EventId(0, 0, 0), {IMAGES: sparse([1])})
        assert path.read_text() == "an earlier file"
    assert h5py.is_hdf5(path)
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_exception_nothing_is_left(tmp_path):
    with pytest.raises(KeyboardInterrupt), LarcvWriter(tmp_path / "a.h5", shape=SHAPE) as writer:
        writer.append(EventId(0, 0, 0), {IMAGES: sparse([1])})
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path):
    planes = random_planes(0, pixels=60_000, shape=(256, 1024))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MEBIBYTE, limits[1]))
    try:
        with pytest.raises(UserError, match=r"Cannot write '.*a\.h5': File too large; check .* free space\."):
            write_file(tmp_path / "a.h5", [planes] * 4, shape=(256, 1024))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, earlier)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_does_not_exist_is_refused_up_front(tmp_path):
    with pytest.raises(UserError, match=r"there is no directory '.*nowhere'; make it first"):
        LarcvWriter(tmp_path / "nowhere" / "a.h5")


def test_a_directory_in_the_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="it is a directory; name a file in it"):
        LarcvWriter(tmp_path)


def test_a_directory_that_may_not_be_written_is_refused_up_front(tmp_path, monkeypatch):
    def denied(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(UserError, match=r"Cannot write '.*a\.h5': Permission denied; check"):
        LarcvWriter(tmp_path / "a.h5")


# Events that do not fit.


def test_every_event_brings_the_same_products(tmp_path):
    with LarcvWriter(tmp_path / "a.h5", shape=SHAPE) as writer:
        writer.append(EventId(0, 0, 0), {IMAGES: sparse([1])})
        with pytest.raises(ValueError, match="event 1 has"):
            writer.append(EventId(0, 0, 1), {Product("sparse2d", "other"): sparse([1])})
        assert len(writer) == 1


@pytest.mark.parametrize("producer", ["", "a/b"])
def test_producers_that_cannot_be_named_in_a_file_are_refused(tmp_path, producer):
    with (
        LarcvWriter(tmp_path / "a.h5") as writer,
        pytest.raises(UserError, match=f"'{producer}' cannot name a producer"),
    ):
        writer.append(EventId(0, 0, 0), {Product("sparse2d", producer): sparse([1])})


def test_a_product_of_another_type_than_its_name_is_refused(tmp_path):
    with LarcvWriter(tmp_path / "a.h5") as writer, pytest.raises(ValueError, match="its type is sparse2d"):
        writer.append(EventId(0, 0, 0), {Product("particle", "x"): sparse([1])})


@pytest.mark.parametrize(("index", "message"), [([512], "do not lie within"), ([-1], "do not lie"), ([3, 3], "twice")])
def test_pixels_outside_the_image_or_given_twice_are_refused(tmp_path, index, message):
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.h5", {IMAGES: sparse(index)})
    with pytest.raises(ValueError, match=message):
        write(tmp_path / "a.h5", {Product("sparse3d", "x"): Sparse3D(pixels(index), (8, 8, 8), (1.0, 1.0, 1.0))})


def test_products_check_their_shapes():
    with pytest.raises(ValueError, match="equally long"):
        Pixels(np.arange(3), np.arange(2))
    with pytest.raises(ValueError, match=r"arrays \[n, 4\]"):
        BBox2D([np.zeros((2, 3))])
    with pytest.raises(ValueError, match=r"layout\.PARTICLE"):
        Particles(np.zeros(2))
    with pytest.raises(ValueError, match="no labels"):
        Sparse2D.labels([plane([1]), type(plane([1]))(np.zeros(1, np.int32), np.zeros(1, np.float32), None)])


def test_compression_levels_are_bounded(tmp_path):
    with pytest.raises(ValueError, match="compression must be 0 to 3, not 9"):
        LarcvWriter(tmp_path / "a.h5", compression=9)
