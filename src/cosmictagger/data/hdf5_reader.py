"""Reads larcv3 files with h5py and isal alone, without the larcv library."""

import bisect
import dataclasses
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cosmictagger.data import downsample as pooling
from cosmictagger.data import layout
from cosmictagger.data.events import BACKGROUND, COSMIC, NEUTRINO, Event, PlanePixels, Product
from cosmictagger.data.larcv_file import LarcvFile, ParticleTable, PlaneTable
from cosmictagger.data.layout import Records
from cosmictagger.data.paths import expand
from cosmictagger.errors import UserError

NO_PRODUCER = "none"
LABELS = (BACKGROUND, COSMIC, NEUTRINO)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """A file, and what is read of it."""

    file: LarcvFile
    images: PlaneTable
    labels: PlaneTable | None
    particles: ParticleTable | None


@dataclasses.dataclass(frozen=True)
class _Voxels:
    """The rows of one event: `id` (int32) and `value` of all planes, plane p from bounds[p] to bounds[p + 1]."""

    id: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    bounds: list[int]

    def plane(self, plane: int) -> slice:
        """Say where a plane's rows are."""
        return slice(self.bounds[plane], self.bounds[plane + 1])


class Hdf5Reader:
    """The `EventReader` of this project: `files` (paths and globs) seen as one list of entries.

    Labels belong to pixels by id, after downsampling; where they come for other pixels than the image has,
    they are left out and counted, and image pixels without a label are background. With `label_producer`
    "none" events have no labels. `downsample` halves the images that many times. Pixels that a file holds
    twice are summed, their labels the larger one. Raises UserError for files that cannot be read so.
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
        self._downsample = downsample
        self._sources: list[_Source] = []
        for path in expand(files):
            self._sources.append(_open_source(path, image_producer, label_producer, particle_producer, nplanes))
        self._starts = list(itertools.accumulate((len(source.file) for source in self._sources), initial=0))
        self.full_shape = self._common_shape()
        self._shape = pooling.downsampled_shape(self.full_shape, downsample)
        self._counters = threading.Lock()
        self._bytes_read = 0
        self._unmatched_labels = 0

    @property
    def shape(self) -> tuple[int, int]:
        """(ticks, wires) of the images that `read` returns."""
        return self._shape

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, in the order of their entries."""
        return tuple(source.file.path for source in self._sources)

    @property
    def entries_per_file(self) -> tuple[int, ...]:
        """Number of events in each of `files`."""
        return tuple(len(source.file) for source in self._sources)

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the files so far, as stored."""
        return self._bytes_read

    @property
    def unmatched_labels(self) -> int:
        """Labels met so far whose pixel is not in the image."""
        return self._unmatched_labels

    def __len__(self) -> int:
        return self._starts[-1]

    def products(self) -> tuple[Product, ...]:
        """List the products that every file has."""
        return tuple(sorted(set.intersection(*(set(source.file.products) for source in self._sources))))

    def sizes(self) -> npt.NDArray[np.int64]:
        """Count the pixels of each event, all planes together, before downsampling."""
        return np.concatenate([source.images.count.sum(axis=1) for source in self._sources])

    def source(self, entry: int) -> tuple[Path, int]:
        """Give the file of an entry, and the entry's number in it."""
        source, local = self._locate(entry)
        return source.file.path, local

    def describe(self, entry: int) -> str:
        """Name an entry in a message."""
        path, local = self.source(entry)
        return f"'{path}', entry {local}"

    def read(self, entry: int) -> Event:
        """Read one event; UserError naming file, entry and plane where its content is not valid."""
        source, local = self._locate(entry)
        images = self._read_voxels(source.images, entry, local)
        self._check(np.isfinite(images.value), images, entry, "charge {} is not finite")
        labels = None
        if source.labels is not None:
            labels = self._read_voxels(source.labels, entry, local)
            self._check(np.isin(labels.value, LABELS), labels, entry, f"label {{:g}} is not one of {LABELS}")
        planes = tuple(self._plane(images, labels, plane) for plane in range(len(images.bounds) - 1))
        return Event(entry, source.file.event_id(local), self._shape, planes)

    def particles(self, entry: int) -> Records:
        """Read the true particles of one event, one record each with the field names of the file."""
        source, local = self._locate(entry)
        if source.particles is None:
            return np.zeros(0, layout.PARTICLE)
        first = int(source.particles.first[local])
        rows = source.particles.particles.read(first, first + int(source.particles.count[local]))
        self._count(stored_bytes=rows.stored_bytes)
        return rows.records

    def close(self) -> None:
        """Let go of the files; the reader cannot be used any more."""
        self._sources, self._starts = [], [0]

    def _locate(self, entry: int) -> tuple[_Source, int]:
        if not 0 <= entry < len(self):
            raise IndexError(f"entry {entry} of {len(self)}")
        number = bisect.bisect_right(self._starts, entry) - 1
        return self._sources[number], entry - self._starts[number]

    def _read_voxels(self, table: PlaneTable, entry: int, local: int) -> _Voxels:
        first, count = table.first[local], table.count[local]
        stop = first + count
        if (first[1:] == stop[:-1]).all():  # the planes follow each other: chunks that they share are read once
            parts = [table.voxels.read(int(first[0]), int(stop[-1]))]
        else:
            parts = [table.voxels.read(int(a), int(b)) for a, b in zip(first, stop, strict=True)]
        self._count(stored_bytes=sum(part.stored_bytes for part in parts))
        ids = np.concatenate([part.records["id"] for part in parts])
        value = np.concatenate([part.records["value"] for part in parts]).astype(np.float32, copy=False)
        size = self.full_shape[0] * self.full_shape[1]
        voxels = _Voxels(ids.astype(np.int32), value, [0, *np.cumsum(count).tolist()])
        if len(ids) and ids.max() >= size:
            self._check(ids < size, voxels, entry, f"a pixel lies outside the image of {size} pixels")
        return voxels

    def _plane(self, images: _Voxels, labels: _Voxels | None, plane: int) -> PlanePixels:
        ticks, wires = self.full_shape
        here = images.plane(plane)
        blocks = pooling.group(images.id[here], (wires, ticks), self._downsample)
        value = blocks.average(images.value[here])
        if labels is None:
            return PlanePixels(blocks.index, value, None)
        there = labels.plane(plane)
        label = labels.value[there].astype(np.uint8)
        if np.array_equal(images.id[here], labels.id[there]):
            return PlanePixels(blocks.index, value, blocks.maximum(label))
        label_blocks = pooling.group(labels.id[there], (wires, ticks), self._downsample)
        return PlanePixels(blocks.index, value, self._match(blocks.index, label_blocks, label))

    def _match(
        self, index: npt.NDArray[np.int32], labels: pooling.Blocks, label: npt.NDArray[np.uint8]
    ) -> npt.NDArray[np.uint8]:
        places, found = pooling.match(index, labels.index)
        self._count(unmatched_labels=int(np.count_nonzero(~found)))
        matched = np.full(len(index), BACKGROUND, np.uint8)
        matched[places[found]] = labels.maximum(label)[found]
        return matched

    def _check(self, valid: npt.NDArray[np.bool_], voxels: _Voxels, entry: int, problem: str) -> None:
        """Raise UserError at the first voxel that is not valid; `problem` may quote its value as {}."""
        if not valid.all():
            row = int(np.argmin(valid))
            plane = bisect.bisect_right(voxels.bounds, row) - 1
            raise UserError(f"{self.describe(entry)}, plane {plane}: {problem.format(voxels.value[row])}.")

    def _count(self, stored_bytes: int = 0, unmatched_labels: int = 0) -> None:
        with self._counters:
            self._bytes_read += stored_bytes
            self._unmatched_labels += unmatched_labels

    def _common_shape(self) -> tuple[int, int]:
        first = self._sources[0]
        for source in self._sources:
            for table, what in ((source.images, "images"), (source.labels, "labels")):
                if table is not None and table.shape != first.images.shape:
                    raise UserError(
                        f"'{source.file.path}': its {what} are {_words(table.shape)}, but the images of "
                        f"'{first.file.path}' are {_words(first.images.shape)}; read files of one kind."
                    )
        return first.images.shape


def _open_source(path: Path, image: str, label: str, particle: str, nplanes: int) -> _Source:
    with LarcvFile(path) as file:
        return _Source(
            file=file,
            images=file.planes(image, nplanes),
            labels=None if label == NO_PRODUCER else file.planes(label, nplanes),
            particles=None if particle == NO_PRODUCER else file.particles(particle),
        )


def _words(shape: tuple[int, int]) -> str:
    return f"{shape[0]} ticks x {shape[1]} wires"
