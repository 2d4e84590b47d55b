"""Reading through the larcv library: what it refuses, and that nothing the user does wrong blocks or ends it."""

import concurrent.futures
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import h5py
import numpy as np
import pytest

from cosmictagger.data.events import EventId, Product
from cosmictagger.data.larcv_reader import LarcvReader, check_library, load_library
from cosmictagger.errors import UserError

from .builders import IMAGE, IMAGE_GROUP, LABEL, LABEL_GROUP, PARTICLE, SHAPE, edit, plane, random_planes, write_file

TIMEOUT = 60  # seconds; a call into larcv after a failed one would never come back


class Voxels:
    """larcv's VoxelSet, as far as the check of the library needs it."""

    def set(self, indexes: np.ndarray, values: np.ndarray) -> None:
        self.stored = indexes, values

    def indexes(self) -> np.ndarray:
        return self.stored[0]

    def values(self) -> np.ndarray:
        return self.stored[1]


class Tensor:
    """larcv's Tensor2D."""

    def __init__(self, image: np.ndarray) -> None:
        self.image = image

    def as_array(self) -> np.ndarray:
        return self.image


class RepeatingTensor(Tensor):
    """What a build with the bundled pybind11 2.9.2 gives under numpy 2 (seen): the first value, everywhere."""

    def as_array(self) -> np.ndarray:
        return np.full_like(self.image, self.image.flat[0])


class RepeatingVoxels(Voxels):
    def values(self) -> np.ndarray:
        return np.full_like(self.stored[1], self.stored[1][0])


def library(voxels: type, tensor: type) -> types.SimpleNamespace:
    return types.SimpleNamespace(VoxelSet=voxels, Tensor2D=tensor, __file__="/opt/larcv/__init__.py")


def test_a_library_that_returns_what_it_was_given_is_accepted():
    check_library(library(Voxels, Tensor))


@pytest.mark.parametrize(("voxels", "tensor"), [(Voxels, RepeatingTensor), (RepeatingVoxels, Tensor)])
def test_a_library_that_repeats_the_first_value_is_refused(voxels, tensor):
    with pytest.raises(UserError, match=r"'/opt/larcv' returns wrong values.*'make larcv'"):
        check_library(library(voxels, tensor))


def test_without_the_library_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "larcv", None)
    with pytest.raises(UserError, match=r"--reader larcv: .* cannot be imported .*'make larcv'.*--reader h5py"):
        load_library()


@pytest.mark.larcv
class TestWithLibrary:
    @pytest.fixture(autouse=True)
    def _library(self):
        pytest.importorskip("larcv", reason="the larcv library is not installed (make larcv)")

    def reader(self, *files: Path, **options) -> LarcvReader:
        producers = {"image_producer": IMAGE, "label_producer": LABEL, "particle_producer": PARTICLE}
        return LarcvReader(files, **(producers | options))

    def test_the_installed_library_is_accepted(self):
        assert load_library().__version__ == "3.5.1"

    def test_an_event_in_numbers(self, tmp_path):
        tick, wire = 3, 7
        pixel = tick * SHAPE[1] + wire
        path = write_file(tmp_path / "a.h5", [[plane([pixel, pixel + 1], [5.25, 9.5], [1, 2]), plane([]), plane([0])]])
        event = self.reader(path).read(0)
        assert event.event_id == EventId(1, 20, 300)
        assert event.shape == SHAPE
        assert [p.index.tolist() for p in event.planes] == [[pixel, pixel + 1], [], [0]]
        assert [p.value.tolist() for p in event.planes] == [[5.25, 9.5], [], [5.0]]
        assert [p.label.tolist() for p in event.planes] == [[1, 2], [], [0]]
        assert [(p.index.dtype, p.value.dtype, p.label.dtype) for p in event.planes] == [("i4", "f4", "u1")] * 3

    def test_downsampling_averages_charges_and_takes_the_largest_label(self, tmp_path):
        width = SHAPE[1]
        pixels = plane([0, 1, width, 2], [1.0, 2.0, 4.0, 5.0], [1, 2, 0, 1])
        path = write_file(tmp_path / "a.h5", [[pixels]])
        event = self.reader(path, nplanes=1, downsample=1).read(0)
        assert event.shape == (SHAPE[0] // 2, SHAPE[1] // 2)
        assert event.planes[0].index.tolist() == [0, 1]
        assert event.planes[0].value.tolist() == [7 / 4, 5 / 4]
        assert event.planes[0].label.tolist() == [2, 1]

    def test_no_labels_and_no_particles_when_none_are_asked_for(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        reader = self.reader(path, label_producer="none", particle_producer="none")
        assert reader.read(0).planes[0].label is None
        assert len(reader.particles(0)) == 0

    def test_particles_of_an_unknown_producer_are_none(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        assert len(self.reader(path, particle_producer="corsika").particles(0)) == 0

    def test_entries_run_over_files_in_any_order(self, tmp_path):
        # larcv with one manager for all files would return pixels of the wrong file here.
        files = [
            write_file(tmp_path / "a.h5", [random_planes(1), random_planes(2)]),
            write_file(tmp_path / "b.h5", [random_planes(3), random_planes(4)]),
        ]
        reader = self.reader(*files)
        assert len(reader) == 4
        for entry in (2, 1, 3, 0, 2, 2, 0):
            expected = random_planes(entry + 1)
            assert [p.value.tolist() for p in reader.read(entry).planes] == [p.value.tolist() for p in expected]
            assert reader.read(entry).event_id == EventId(1, 20, 300 + entry % 2)
            assert len(reader.particles(entry)) == entry % 2 + 1

    def test_products_are_listed(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        expected = {Product("sparse2d", IMAGE), Product("sparse2d", LABEL), Product("particle", PARTICLE)}
        assert set(self.reader(path).products()) == expected

    def test_bytes_read_of_all_pixels_and_particles_are_the_stored_bytes_of_their_tables(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(entry, pixels=300) for entry in range(4)])
        reader = self.reader(path)
        assert reader.bytes_read == 0
        for entry in range(4):
            reader.read(entry)
            reader.particles(entry)
        with h5py.File(path) as file:
            tables = (f"{IMAGE_GROUP}/voxels", f"{LABEL_GROUP}/voxels", f"Data/particle_{PARTICLE}_group/particles")
            assert reader.bytes_read == sum(file[table].id.get_storage_size() for table in tables)

    def test_many_threads_get_the_same_as_one(self, tmp_path):
        entries = list(range(6)) * 4
        path = write_file(tmp_path / "a.h5", [random_planes(entry) for entry in range(6)])
        reader = self.reader(path)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            events = list(pool.map(reader.read, entries))
        for entry, event in zip(entries, events, strict=True):
            expected = random_planes(entry)
            assert [p.index.tolist() for p in event.planes] == [p.index.tolist() for p in expected]
            assert [p.value.tolist() for p in event.planes] == [p.value.tolist() for p in expected]

    def test_nothing_is_printed(self, tmp_path, capfd):
        path = write_file(tmp_path / "a.h5", [random_planes(1), random_planes(2)])
        reader = self.reader(path, downsample=1)
        reader.read(1)
        reader.particles(0)
        reader.close()
        assert capfd.readouterr() == ("", "")

    def test_a_missing_file_is_a_sentence(self, tmp_path):
        with pytest.raises(UserError, match="no file"):
            self.reader(tmp_path / "missing.h5")

    def test_a_file_that_is_no_hdf5_file_is_a_sentence(self, tmp_path):
        path = tmp_path / "a.h5"
        path.write_bytes(b"not an HDF5 file" * 100)
        with pytest.raises(UserError, match="is not an HDF5 file"):
            self.reader(path)

    def test_a_truncated_file_is_a_sentence(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        path.write_bytes(path.read_bytes()[:-2000])
        with pytest.raises(UserError, match=r"a\.h5'.* incomplete.* copy it again"):
            self.reader(path)

    def test_an_unknown_producer_is_named_with_those_there(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        with pytest.raises(UserError, match=f"no sparse2d by producer 'wires'.*{LABEL}, {IMAGE}"):
            self.reader(path, image_producer="wires")

    def test_voxels_that_larcv_cannot_inflate_are_refused(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        with h5py.File(path) as file:
            chunk = file[f"{IMAGE_GROUP}/voxels"].id.get_chunk_info(0)
        with path.open("r+b") as raw:
            raw.seek(chunk.byte_offset)
            raw.write(bytes(chunk.size))
        with pytest.raises(UserError, match=r"a\.h5', entry 0, plane 0: .* damaged"):
            self.reader(path).read(0)

    def test_a_charge_that_is_not_finite_is_refused(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1, pixels=4), random_planes(2, pixels=4)])

        def break_entry_1_plane_2(rows: np.ndarray) -> None:
            rows["value"][-1] = np.nan

        edit(path, f"{IMAGE_GROUP}/voxels", break_entry_1_plane_2)
        with pytest.raises(UserError, match=r"a\.h5', entry 1, plane 2: charge nan is not finite"):
            self.reader(path, downsample=1).read(1)

    def test_a_label_out_of_range_is_refused(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1, pixels=4)])

        def break_plane_1(rows: np.ndarray) -> None:
            rows["value"][4] = 7

        edit(path, f"{LABEL_GROUP}/voxels", break_plane_1)
        with pytest.raises(UserError, match=r"a\.h5', entry 0, plane 1: label 7 is not one of"):
            self.reader(path).read(0)

    def test_a_file_that_vanished_in_between_is_a_sentence(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1)])
        reader = self.reader(path)
        path.unlink()
        with pytest.raises(UserError, match=r"a\.h5' cannot be read any more"):
            reader.read(0)

    def test_after_a_failure_within_larcv_further_calls_fail_too_instead_of_waiting_forever(self, tmp_path):
        path = write_file(tmp_path / "a.h5", [random_planes(1), random_planes(2)])
        emptied = write_file(tmp_path / "b.h5", [random_planes(1)])
        with h5py.File(emptied, "r+") as file:
            file["Events/event_id"].resize((0,))
        program = """
            import pathlib, sys
            from cosmictagger.data.larcv_reader import LarcvReader
            from cosmictagger.errors import UserError

            path, emptied = sys.argv[1:]
            reader = LarcvReader([path], image_producer="wire")
            pathlib.Path(emptied).replace(path)
            for entry in (0, 1):
                try:
                    reader.read(entry)
                except UserError as error:
                    print("refused:", error)
        """
        command = [sys.executable, "-c", textwrap.dedent(program), str(path), str(emptied)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=True)
        first, second = [line for line in done.stdout.splitlines() if line.startswith("refused:")]
        assert "entry 0: the larcv library failed" in first
        assert "entry 1: the larcv library cannot go on after it failed at" in second
