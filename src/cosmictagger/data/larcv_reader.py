"""Reads larcv3 files through the larcv library, to compare with and to check this project's own reader.

The library gives everything that an event consists of, downsampling included. Finding and checking the files is
left to `Hdf5Reader`: larcv ends or blocks the process at many a fault that a user should hear of in a sentence.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from cosmictagger.data import layout
from cosmictagger.data.downsample import match
from cosmictagger.data.events import BACKGROUND, Event, EventId, PlanePixels, Product
from cosmictagger.data.hdf5_reader import LABELS, NO_PRODUCER, Hdf5Reader
from cosmictagger.data.layout import Records
from cosmictagger.errors import UserError

ONLY_CRITICAL_MESSAGES = 5
MAIN_TABLE = {"sparse2d": "voxels", "particle": "particles"}
Voxels = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]


class _Content(NamedTuple):
    """What a product's voxels may hold, how to complain otherwise, and how larcv calls the way to downsample it."""

    is_valid: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.bool_]]
    problem: str
    pooling: str


_CHARGES = _Content(np.isfinite, "charge {} is not finite", "kPoolAverage")
_LABELS = _Content(lambda value: np.isin(value, LABELS), f"label {{:g}} is not one of {LABELS}", "kPoolMax")


class LarcvReader:
    """An `EventReader` over the larcv library, with the parameters and the rules of `Hdf5Reader`.

    Events are read one at a time, whatever the number of threads: the library is not safe for threads and holds
    the interpreter's lock. It cannot close a file either: every file that was read stays open until the process
    ends. `bytes_read` is estimated from the number of pixels. Raises UserError where larcv is not installed or
    returns wrong values.
    """

    def __init__(
        self,
        files: Sequence[str | Path],
        *,
        image_producer: str,
        label_producer: str = NO_PRODUCER,
        particle_producer: str = NO_PRODUCER,
        nplanes: int = 3,
        downsample: int = 0,
    ) -> None:
        self._library = load_library()
        self._catalogue = Hdf5Reader(
            files,
            image_producer=image_producer,
            label_producer=label_producer,
            particle_producer=particle_producer,
            nplanes=nplanes,
            downsample=downsample,
        )
        self._images = Product("sparse2d", image_producer)
        self._labels = None if label_producer == NO_PRODUCER else Product("sparse2d", label_producer)
        self._particles = None if particle_producer == NO_PRODUCER else Product("particle", particle_producer)
        self._nplanes = nplanes
        self._side = 1 << downsample
        self._open_files: dict[Path, _OpenFile] = {}
        self._bytes_read = 0.0
        self._unmatched_labels = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(ticks, wires) of the images that `read` returns."""
        return self._catalogue.shape

    @property
    def bytes_read(self) -> int:
        """Bytes that the pixels and particles read so far take in the files, on average."""
        return round(self._bytes_read)

    @property
    def unmatched_labels(self) -> int:
        """Labels met so far whose pixel is not in the image."""
        return self._unmatched_labels

    def __len__(self) -> int:
        return len(self._catalogue)

    def products(self) -> Sequence[Product]:
        """List the products that every file has."""
        return self._catalogue.products()

    def sizes(self) -> npt.NDArray[np.int64]:
        """Count the pixels of each event, all planes together, before downsampling."""
        return self._catalogue.sizes()

    def describe(self, entry: int) -> str:
        """Name an entry in a message."""
        return self._catalogue.describe(entry)

    def read(self, entry: int) -> Event:
        """Read one event; UserError naming file, entry and plane where its content is not valid."""
        with self._at(entry) as file:
            images = self._read_planes(file, self._images, _CHARGES, entry)
            labels = self._read_planes(file, self._labels, _LABELS, entry) if self._labels else [None] * self._nplanes
            planes = tuple(self._combine(*plane) for plane in zip(images, labels, strict=True))
            return Event(entry, file.event_id(), self.shape, planes)

    def particles(self, entry: int) -> Records:
        """Read the true particles of one event, one record each; empty where the file has none."""
        if self._particles is None:
            return np.zeros(0, layout.PARTICLE)
        with self._at(entry) as file:
            records = file.particles(self._particles)
            self._bytes_read += records.size * file.bytes_per_row[self._particles]
        return records

    def close(self) -> None:
        """Let go of the files; the reader cannot be used any more."""
        self._open_files.clear()
        self._catalogue.close()

    @contextlib.contextmanager
    def _at(self, entry: int) -> "Iterator[_OpenFile]":
        """Hold the library, its file at `entry`."""
        path, local = self._catalogue.source(entry)
        with _GATE.entered(f"'{path}', entry {local}"):
            if path not in self._open_files:
                wanted = [product for product in (self._images, self._labels, self._particles) if product]
                self._open_files[path] = _OpenFile(self._library, path, wanted)
            file = self._open_files[path]
            file.go_to(local)
            yield file

    def _read_planes(self, file: "_OpenFile", product: Product, content: _Content, entry: int) -> list[Voxels]:
        tensors = file.planes(product)
        voxels = []
        for plane in range(self._nplanes):
            where = f"{self.describe(entry)}, plane {plane}"
            tensor = tensors.get(plane)
            # A voxel that larcv failed to read keeps the largest id there is.
            if tensor is None or tensor.indexes().max(initial=0) >= tensor.meta().total_voxels():
                raise UserError(f"{where}: larcv cannot read '{product.producer}'; the file is damaged, copy it again.")
            value = tensor.values()
            valid = content.is_valid(value)
            if not valid.all():
                raise UserError(f"{where}: {content.problem.format(value[np.argmin(valid)])}.")
            self._bytes_read += len(value) * file.bytes_per_row[product]
            voxels.append(self._pool(tensor, getattr(self._library, content.pooling)))
        return voxels

    def _pool(self, tensor: Any, pooling: Any) -> Voxels:
        """Take the voxels of a plane, downsampled by what larcv's processor `Downsample` calls, in image order."""
        ascending = bool((np.diff(tensor.indexes().astype(np.int64)) > 0).all())
        if self._side > 1 or not ascending:  # pooling over single pixels merges those that come twice
            tensor = tensor.compress(self._side, pooling)
        wires, ticks = tensor.meta().number_of_voxels(0), tensor.meta().number_of_voxels(1)
        wire, tick = np.divmod(tensor.indexes().astype(np.int64), ticks)
        index = (tick * wires + wire).astype(np.int32)
        order = np.argsort(index)
        return index[order], tensor.values()[order]

    def _combine(self, image: Voxels, label: Voxels | None) -> PlanePixels:
        index, value = image
        if label is None:
            return PlanePixels(index, value, None)
        places, found = match(index, label[0])
        self._unmatched_labels += int(np.count_nonzero(~found))
        matched = np.full(len(index), BACKGROUND, np.uint8)
        matched[places[found]] = label[1][found].astype(np.uint8)
        return PlanePixels(index, value, matched)


class _OpenFile:
    """One file in the library's hands. Only to be touched within `_GATE`."""

    def __init__(self, library: Any, path: Path, products: Sequence[Product]) -> None:
        self.bytes_per_row = _bytes_per_row(path, products)
        # One manager for each file: one for several mixes them up (it goes on reading a product from the file
        # before, unless that product is asked for at the very first entry of the next).
        self._manager = library.IOManager(library.IOManager.kREAD, "cosmictagger")
        settings = library.IOManager.default_config()
        settings["Verbosity"] = ONLY_CRITICAL_MESSAGES
        settings["Input"]["InputFiles"] = [str(path)]
        settings["Input"]["ReadOnlyType"] = [product.type for product in products]
        settings["Input"]["ReadOnlyName"] = [product.producer for product in products]
        self._manager.configure(settings)
        if not self._manager.initialize():
            raise RuntimeError("initialize")

    def go_to(self, local: int) -> None:
        """Make the event the one that everything else reads."""
        # Without clearing, an event without planes would show those of the event before.
        self._manager.clear_entry()
        if not self._manager.read_entry(local, True):
            raise RuntimeError("read_entry")

    def event_id(self) -> EventId:
        """Give the number of the event."""
        number = self._manager.event_id()
        return EventId(number.run(), number.subrun(), number.event())

    def planes(self, product: Product) -> dict[int, Any]:
        """Give the planes of a sparse2d product; they are larcv's, valid until the next `go_to`."""
        tensors = self._manager.get_data(*product)
        planes = [tensors.at(position) for position in range(tensors.size())]
        return {plane.meta().id(): plane for plane in planes if plane.meta().is_valid()}

    def particles(self, product: Product) -> Records:
        """Copy the particles of a product, none where the file does not have it."""
        if product.producer not in self._manager.producer_list(product.type):
            return np.zeros(0, layout.PARTICLE)
        records = [
            particle.as_array().view(layout.PARTICLE) for particle in self._manager.get_data(*product).as_vector()
        ]
        return np.concatenate([np.zeros(0, layout.PARTICLE), *records])


def _bytes_per_row(path: Path, products: Sequence[Product]) -> dict[Product, float]:
    """Say what a row of each product's largest table takes in the file."""
    stored = {}
    try:
        with h5py.File(path, "r", locking=False) as file:
            for product in products:
                table = file.get(f"{layout.group_path(*product)}/{MAIN_TABLE[product.type]}")
                stored[product] = table.id.get_storage_size() / max(len(table), 1) if table else 0.0
    except OSError as error:
        raise UserError(f"'{path}' cannot be read any more: {error}.") from None
    return stored


class _Gate:
    """Lets one thread at a time into the library, and nobody after a failure.

    The library guards itself with one mutex for the whole process, which stays locked when it throws or says that
    it failed: the next call would wait forever, with the interpreter's lock in its hands.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed = ""

    @contextlib.contextmanager
    def entered(self, what: str) -> Iterator[None]:
        """Hold the library while working on `what`; UserError where it fails or failed before."""
        with self._lock:
            if self._failed:
                raise UserError(f"{what}: the larcv library cannot go on after it failed at {self._failed}.")
            try:
                yield
            except (RuntimeError, IndexError) as error:  # what the bindings make of C++ exceptions
                self._failed = what
                raise UserError(f"{what}: the larcv library failed; try --reader h5py, which says why.") from error


_GATE = _Gate()


def load_library() -> Any:
    """Import larcv and make sure that it returns what is in a file; UserError otherwise."""
    # Lustre and GPFS are often mounted without file locks, and larcv offers no other way to do without.
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
    try:
        import larcv
    except ImportError as error:
        raise UserError(
            f"--reader larcv: the larcv library cannot be imported ({error}); install it with 'make larcv', "
            "or read the same files with --reader h5py."
        ) from None
    check_library(larcv)
    return larcv


def check_library(library: Any) -> None:
    """Send two known voxels through larcv to numpy and back; UserError where others return.

    A build with larcv's bundled pybind11 misreads the descriptors of numpy 2: its arrays repeat their first value.
    """
    voxels = library.VoxelSet()
    voxels.set(np.array([1, 5], np.uint64), np.array([2.5, -4.0], np.float32))
    image = np.array([[0, 2.5, 0], [0, 0, -4.0]], np.float32)
    returned = (voxels.indexes(), voxels.values(), library.Tensor2D(image).as_array())
    expected = (np.array([1, 5]), np.array([2.5, -4.0]), image)
    if not all(map(np.array_equal, returned, expected)):
        raise UserError(
            f"--reader larcv: the larcv library in '{Path(library.__file__).parent}' returns wrong values (it was built "
            "with a pybind11 too old for numpy 2); install a right one with 'make larcv', or use --reader h5py."
        )
