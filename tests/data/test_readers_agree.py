"""This project's reader and writer against the larcv library, bit by bit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cosmictagger.data.events import Event, EventId, EventReader, Product
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.larcv_reader import LarcvReader
from cosmictagger.data.layout import PARTICLE as PARTICLE_RECORD
from cosmictagger.data.products import (
    AnyProduct,
    BBox2D,
    Cluster2D,
    Particles,
    Pixels,
    Sparse2D,
    Sparse3D,
    blank_particles,
)
from cosmictagger.data.writer import LarcvWriter

from .builders import IMAGE, IMAGE_GROUP, LABEL, PARTICLE, SHAPE, edit, plane, random_planes, write_file

pytestmark = pytest.mark.larcv
larcv = pytest.importorskip("larcv", reason="the larcv library is not installed (make larcv)")

PRODUCERS = {"image_producer": IMAGE, "label_producer": LABEL, "particle_producer": PARTICLE}
SBND_PRODUCERS = {
    "image_producer": "sbndwire",
    "label_producer": "sbnd_cosmicseg",
    "particle_producer": "sbndneutrino",
}
NO_PIXELS = Pixels(np.zeros(0, np.int32), np.zeros(0, np.float32))


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()


def assert_same_event(ours: Event, theirs: Event) -> None:
    assert ours.event_id == theirs.event_id
    assert ours.shape == theirs.shape
    for mine, its in zip(ours.planes, theirs.planes, strict=True):
        assert_same_bits(mine.index, its.index)
        assert_same_bits(mine.value, its.value)
        assert_same_bits(mine.label, its.label)


def assert_same_particles(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert len(ours) == len(theirs)
    for name in PARTICLE_RECORD.names:
        assert ours[name].tolist() == theirs[name].tolist(), name


def assert_agree(files: list[Path], downsample: int, **producers: str) -> EventReader:
    """Compare everything that the readers give, and return larcv's."""
    ours = Hdf5Reader(files, downsample=downsample, **producers)
    theirs = LarcvReader(files, downsample=downsample, **producers)
    assert (len(ours), ours.shape, ours.products()) == (len(theirs), theirs.shape, theirs.products())
    for entry in range(len(ours)):
        assert_same_event(ours.read(entry), theirs.read(entry))
        assert_same_particles(ours.particles(entry), theirs.particles(entry))
    assert ours.unmatched_labels == theirs.unmatched_labels
    return theirs


@pytest.mark.parametrize("downsample", [0, 1, 2, 3])
def test_the_sbnd_sample(sbnd_sample, downsample):
    reader = assert_agree([sbnd_sample], downsample, **SBND_PRODUCERS)
    assert len(reader) == 3
    assert [reader.particles(entry)["pdg"][0] for entry in range(3)] == [14, 12, 12]


@pytest.mark.parametrize("downsample", [0, 1, 2, 4])
def test_full_images_whose_sums_depend_on_the_order_of_addition(tmp_path, downsample):
    pixels = SHAPE[0] * SHAPE[1]
    path = write_file(tmp_path / "a.h5", [random_planes(seed, pixels) for seed in range(3)])
    assert_agree([path], downsample, **PRODUCERS)


@pytest.mark.parametrize("downsample", [0, 1])
def test_empty_planes_and_single_pixels(tmp_path, downsample):
    last = SHAPE[0] * SHAPE[1] - 1
    events = [[plane([]), plane([]), plane([])], [plane([0]), plane([]), plane([last])], random_planes(1)]
    assert_agree([write_file(tmp_path / "a.h5", events)], downsample, **PRODUCERS)


@pytest.mark.parametrize("downsample", [0, 1])
def test_labels_on_other_pixels_than_the_image(tmp_path, downsample):
    events, labels = [[random_planes(first + entry) for entry in range(3)] for first in (0, 10)]
    path = write_file(tmp_path / "a.h5", events, labels=labels)
    assert assert_agree([path], downsample, **PRODUCERS).unmatched_labels > 0


@pytest.mark.parametrize("downsample", [0, 1])
def test_pixels_out_of_order_and_given_twice(tmp_path, downsample):
    path = write_file(tmp_path / "a.h5", [random_planes(seed) for seed in range(3)])

    def disturb(rows: np.ndarray) -> None:
        rows[5:15] = rows[5:15][::-1]
        rows["id"][50] = rows["id"][51]

    edit(path, f"{IMAGE_GROUP}/voxels", disturb)
    assert_agree([path], downsample, **PRODUCERS)


def test_several_files(tmp_path):
    files = [
        write_file(tmp_path / f"{number}.h5", [random_planes(10 * number + entry) for entry in range(number + 1)])
        for number in range(3)
    ]
    assert len(assert_agree(files, 1, **PRODUCERS)) == 6


@pytest.mark.parametrize("compression", [0, 1, 3])
def test_files_of_any_compression(tmp_path, compression):
    path = write_file(tmp_path / "a.h5", [random_planes(seed, 500) for seed in range(4)], compression=compression)
    assert_agree([path], 0, **PRODUCERS)


def test_downsampling_is_that_of_the_processor_downsample(tmp_path):
    """The reader calls what the processor calls; here the processor itself runs and writes a file."""
    source, target = write_file(tmp_path / "a.h5", [random_planes(seed, 400) for seed in range(3)]), tmp_path / "b.h5"
    driver = larcv.ProcessDriver("cosmictagger")
    settings = larcv.ProcessDriver.default_config()
    settings["IOManager"] = larcv.IOManager.default_config() | {"IOMode": int(larcv.IOManager.kBOTH), "Verbosity": 5}
    settings["IOManager"]["Input"]["InputFiles"] = [str(source)]
    settings["IOManager"]["Output"]["OutFileName"] = str(target)
    settings["ProcessType"], settings["ProcessName"] = ["Downsample"] * 2, ["images", "labels"]
    settings["ProcessList"] = {
        name: {
            "Product": "sparse2d",
            "Producer": producer,
            "OutputProducer": f"half{producer}",
            "Downsample": 2,
            "PoolType": int(pooling),
        }
        for name, producer, pooling in (("images", IMAGE, larcv.kPoolAverage), ("labels", LABEL, larcv.kPoolMax))
    }
    driver.configure(settings)
    driver.initialize()
    for entry in range(3):
        driver.process_entry(entry, True)
    driver.finalize()

    processed = Hdf5Reader([target], image_producer=f"half{IMAGE}", label_producer=f"half{LABEL}")
    reader = LarcvReader([source], downsample=1, image_producer=IMAGE, label_producer=LABEL)
    assert len(processed) == 3
    for entry in range(3):
        assert_same_event(processed.read(entry), reader.read(entry))


class TestEveryProductThatTheWriterWrites:
    """Written by this project, read back by the library."""

    def read_back(self, path: Path, events: list[Mapping[Product, AnyProduct]]) -> Any:
        with LarcvWriter(path, shape=SHAPE, size=(3.2, 8.0), origin=(-1.0, 2.0)) as writer:
            for entry, products in enumerate(events):
                writer.append(EventId(1, 2, 30 + entry), products)
        manager = larcv.IOManager(larcv.IOManager.kREAD, "read back")
        settings = larcv.IOManager.default_config() | {"Verbosity": 5}
        settings["Input"]["InputFiles"] = [str(path)]
        manager.configure(settings)
        assert manager.initialize()
        assert manager.get_n_entries() == len(events)
        return manager

    def entries(self, path: Path, product: Product, contents: list[AnyProduct]):
        """Write one product and yield (content, what larcv makes of it), the events in reverse order."""
        manager = self.read_back(path, [{product: content} for content in contents])
        for entry in reversed(range(len(contents))):
            manager.clear_entry()
            assert manager.read_entry(entry, True)
            assert manager.event_id().event() == 30 + entry
            yield contents[entry], manager.get_data(*product)

    def assert_plane_meta(self, meta: Any, plane: int) -> None:
        assert meta.is_valid()
        assert meta.id() == plane
        assert [meta.number_of_voxels(axis) for axis in (0, 1)] == [SHAPE[1], SHAPE[0]]
        assert [meta.image_size(axis) for axis in (0, 1)] == [3.2, 8.0]
        assert [meta.origin(axis) for axis in (0, 1)] == [-1.0, 2.0]

    def assert_pixels(self, voxels: Any, pixels: Pixels) -> None:
        tick, wire = np.divmod(np.asarray(pixels.index, np.int64), SHAPE[1])
        ids = wire * SHAPE[0] + tick
        order = np.argsort(ids)
        assert voxels.indexes().tolist() == ids[order].tolist()
        assert voxels.values().tolist() == pixels.value.astype(np.float32)[order].tolist()

    def test_sparse2d(self, tmp_path):
        events = [Sparse2D.charges(random_planes(seed)) for seed in range(3)] + [Sparse2D([NO_PIXELS] * 3)]
        for content, tensors in self.entries(tmp_path / "a.h5", Product("sparse2d", "wire"), events):
            assert tensors.size() == 3
            for number, pixels in enumerate(content.planes):
                self.assert_plane_meta(tensors.at(number).meta(), number)
                self.assert_pixels(tensors.at(number), pixels)

    def test_cluster2d(self, tmp_path):
        def clusters(seed: int) -> Cluster2D:
            parts = [Sparse2D.charges(random_planes(seed + part)).planes for part in range(4)]
            return Cluster2D([[parts[0][0], parts[1][0], NO_PIXELS, parts[2][0]], [], [parts[3][2]]])

        events = [clusters(seed) for seed in (0, 10, 20)]
        for content, planes in self.entries(tmp_path / "a.h5", Product("cluster2d", "seg"), events):
            assert planes.size() == 3
            for number, parts in enumerate(content.planes):
                self.assert_plane_meta(planes.at(number).meta(), number)
                assert planes.at(number).size() == len(parts)
                for instance, pixels in enumerate(parts):
                    assert planes.at(number).voxel_set(instance).id() == instance
                    self.assert_pixels(planes.at(number).voxel_set(instance), pixels)

    def test_bbox2d(self, tmp_path):
        events = [
            BBox2D([np.arange(8.0).reshape(2, 4), np.zeros((0, 4)), np.array([[1.5, 2.5, 3.5, 4.5]])]),
            BBox2D([np.zeros((0, 4)), np.ones((3, 4)), np.full((1, 4), 0.1)]),
        ]
        for content, planes in self.entries(tmp_path / "a.h5", Product("bbox2d", "boxes"), events):
            assert planes.size() == 3
            for number, boxes in enumerate(content.planes):
                self.assert_plane_meta(planes.at(number).meta(), number)
                found = planes.at(number).as_vector()
                assert [[*box.centroid(), *box.half_length()] for box in found] == boxes.tolist()
                assert all(box.rotation_matrix() == [1.0, 0.0, 0.0, 1.0] for box in found)

    def test_sparse3d(self, tmp_path):
        shape, size, origin = (4, 5, 6), (40.0, 50.0, 60.0), (-20.0, 0.0, 10.0)
        rng = np.random.default_rng(0)
        events = [
            Sparse3D(
                Pixels(np.sort(rng.choice(120, count, replace=False)), rng.random(count, np.float32)),
                shape,
                size,
                origin,
            )
            for count in (7, 0, 120)
        ]
        for content, tensors in self.entries(tmp_path / "a.h5", Product("sparse3d", "space"), events):
            assert tensors.size() == 1
            tensor, meta = tensors.at(0), tensors.at(0).meta()
            assert tuple(meta.number_of_voxels(axis) for axis in range(3)) == shape
            assert tuple(meta.image_size(axis) for axis in range(3)) == size
            assert tuple(meta.origin(axis) for axis in range(3)) == origin
            assert tensor.indexes().tolist() == content.voxels.index.tolist()
            assert tensor.values().tolist() == content.voxels.value.tolist()

    def test_particles(self, tmp_path):
        def particles(count: int) -> Particles:
            records = blank_particles(count)
            # Every field gets a value of its own, so that none can take another's place.
            for column, name in enumerate(PARTICLE_RECORD.names):
                for row in range(count):
                    number = 100 * row + column
                    if name == "process":
                        records[name][row] = f"process {number}".encode()
                    elif name == "shape":
                        records[name][row] = row % 4
                    elif PARTICLE_RECORD[name].names:
                        records[name][row] = tuple(number + 0.1 * axis for axis in range(4))
                    else:
                        records[name][row] = number
            return Particles(records)

        events = [particles(2), particles(0), particles(5)]
        for content, found in self.entries(tmp_path / "a.h5", Product("particle", "neutrino"), events):
            assert found.size() == len(content.records)
            for record, particle in zip(content.records, found.as_vector(), strict=True):
                self.assert_particle(record, particle)

    def assert_particle(self, record: np.void, particle: Any) -> None:
        assert particle.as_array().view(PARTICLE_RECORD)[0].tolist() == record.tolist()
        assert particle.pdg_code() == record["pdg"]
        assert particle.track_id() == record["trackid"]
        assert particle.energy_init() == record["energy_init"]
        assert particle.energy_deposit() == record["energy_deposit"]
        assert particle.nu_current_type() == record["current_type"]
        assert particle.nu_interaction_type() == record["interaction_type"]
        assert particle.creation_process() == record["process"].decode()
        assert (particle.px(), particle.py(), particle.pz()) == tuple(record[name] for name in ("px", "py", "pz"))
        for vertex, name in ((particle.position(), "vtx"), (particle.parent_position(), "parent_vtx")):
            assert (vertex.x(), vertex.y(), vertex.z(), vertex.t()) == record[name].item()

    def test_a_blank_particle_is_a_new_larcv_particle(self):
        new = larcv.Particle().as_array().view(PARTICLE_RECORD)[0]
        undefined = {"process"} | {name for name in PARTICLE_RECORD.names if PARTICLE_RECORD[name].names}
        for name in set(PARTICLE_RECORD.names) - undefined:
            assert blank_particles(1)[name][0] == new[name], name
