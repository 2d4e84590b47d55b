"""One larcv3 file: its events, its products, and where the pixels of every plane lie."""

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from cosmictagger.config.options import suggest
from cosmictagger.data import layout
from cosmictagger.data.chunks import Table, open_table
from cosmictagger.data.events import EventId, Product
from cosmictagger.data.layout import Records
from cosmictagger.data.raw_file import RawFile
from cosmictagger.errors import UserError

LARGEST_IMAGE = 2**31 - 1  # pixel indices are int32

Integers = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PlaneTable:
    """A sparse2d product of `shape` (ticks, wires).

    `first` and `count` [events, planes] give the rows of each plane in `voxels`.
    """

    first: Integers
    count: Integers
    voxels: Table
    shape: tuple[int, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParticleTable:
    """A particle product: `first` and `count` [events] give the rows of each event in `particles`."""

    first: Integers
    count: Integers
    particles: Table


class LarcvFile:
    """A larcv3 file, open for reading; UserError where it is not one or where its tables contradict each other.

    A context manager: small tables are read within the block, pixels and particles of the tables it gives later.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._raw = _open_raw(path)
        self._file = _open(path)
        if layout.EVENT_ID_PATH not in self._file or layout.DATA_GROUP not in self._file:
            raise UserError(
                f"'{path}' is not a larcv3 file: it lacks '{layout.EVENT_ID_PATH}' or '{layout.DATA_GROUP}'."
            )
        self._event_ids = self._rows(self._file["Events"], layout.EVENT_ID_TABLE)
        if not len(self):
            raise UserError(f"'{path}' holds no events.")
        self.products = _list_products(self._file[layout.DATA_GROUP])

    def __len__(self) -> int:
        return len(self._event_ids)

    def event_id(self, entry: int) -> EventId:
        """Give the number of an event."""
        return EventId(*self._event_ids[entry].item())

    def planes(self, producer: str, nplanes: int) -> PlaneTable:
        """Find planes 0 to `nplanes` - 1 of a sparse2d product; UserError where an event lacks one."""
        group = self._group(Product("sparse2d", producer))
        extents, rows, metas = (self._rows(group, table) for table in layout.PRODUCT_TABLES["sparse2d"][:3])
        voxels = self._table(group, layout.PRODUCT_TABLES["sparse2d"][3])
        if (
            len(extents) != len(self)
            or _end(extents) > len(rows)
            or len(metas) != len(rows)
            or _end(rows) > len(voxels)
        ):
            raise self._contradiction(group)
        event, row = _owners(extents)
        rows, metas = rows[row], metas[row]
        # Where an event lacks a plane, larcv writes a row whose meta is not valid.
        wanted = (metas["valid"] != 0) & (rows["ID"] < nplanes)
        event, rows, metas = event[wanted], rows[wanted], metas[wanted]
        self._check_planes(producer, event, rows["ID"], nplanes)
        first, count = np.zeros((2, len(self), nplanes), np.int64)
        first[event, rows["ID"]], count[event, rows["ID"]] = rows["first"], rows["N"]
        return PlaneTable(
            first=first, count=count, voxels=voxels, shape=self._shape(producer, event, rows["ID"], metas)
        )

    def particles(self, producer: str) -> ParticleTable | None:
        """Find the particles of a producer; None where the file has no such product."""
        product = Product("particle", producer)
        if product not in self.products:
            return None
        group = self._group(product)
        extents = self._rows(group, layout.PRODUCT_TABLES["particle"][0])
        particles = self._table(group, layout.PRODUCT_TABLES["particle"][1])
        if len(extents) != len(self) or _end(extents) > len(particles):
            raise self._contradiction(group)
        return ParticleTable(
            first=extents["first"].astype(np.int64), count=extents["N"].astype(np.int64), particles=particles
        )

    def __enter__(self) -> "LarcvFile":
        return self

    def __exit__(self, *_: object) -> None:
        """Close the HDF5 file; tables that were found stay readable."""
        self._file.close()

    def _group(self, product: Product) -> h5py.Group:
        if product in self.products:
            return self._file[layout.group_path(*product)]
        known = [other.producer for other in self.products if other.type == product.type]
        listing = f"it has {', '.join(known)}" if known else "it has none at all"
        raise UserError(
            f"'{self.path}' has no {product.type} by producer '{product.producer}'; {listing}"
            f"{suggest(product.producer, known)}."
        )

    def _dataset(self, group: h5py.Group, table: layout.TableLayout) -> h5py.Dataset:
        dataset = group.get(table.name)
        if not isinstance(dataset, h5py.Dataset) or dataset.ndim != 1:
            raise UserError(f"'{self.path}' is not a larcv3 file: '{group.name}' has no table '{table.name}'.")
        missing = [name for name in table.dtype.names or () if name not in (dataset.dtype.names or ())]
        if missing:
            raise UserError(f"'{self.path}' is not a larcv3 file: '{dataset.name}' has no field '{missing[0]}'.")
        return dataset

    def _rows(self, group: h5py.Group, table: layout.TableLayout) -> Records:
        dataset = self._dataset(group, table)
        try:
            records: Records = dataset[:]
        except OSError:
            raise self._damaged(f"cannot read '{dataset.name}'") from None
        return records

    def _table(self, group: h5py.Group, table: layout.TableLayout) -> Table:
        return open_table(self._dataset(group, table), self._raw)

    def _check_planes(self, producer: str, event: Integers, plane: npt.NDArray[np.uint32], nplanes: int) -> None:
        seen = np.bincount(event * nplanes + plane, minlength=len(self) * nplanes).reshape(len(self), nplanes)
        if (seen == 1).all():
            return
        entry = int(np.argmax((seen != 1).any(axis=1)))
        listing = ", ".join(map(str, np.repeat(np.arange(nplanes), seen[entry]))) or "none"
        raise UserError(
            f"'{self.path}', entry {entry}: '{producer}' has {seen[entry].sum()} of {nplanes} planes ({listing}); "
            "each must be there once. Set --nplanes, or leave the event out."
        )

    def _shape(self, producer: str, event: Integers, plane: npt.NDArray[np.uint32], metas: Records) -> tuple[int, int]:
        sizes = metas["number_of_voxels"]
        other = (sizes != sizes[0]).any(axis=1)
        if other.any():
            at = int(np.argmax(other))
            raise UserError(
                f"'{self.path}', entry {event[at]}, plane {plane[at]}: '{producer}' is {sizes[at][0]} wires x "
                f"{sizes[at][1]} ticks, the planes before are {sizes[0][0]} x {sizes[0][1]}; all must be alike."
            )
        wires, ticks = sizes[0].tolist()
        if not 0 < wires * ticks <= LARGEST_IMAGE:
            raise UserError(f"'{self.path}': images of {wires} wires x {ticks} ticks cannot be read.")
        return ticks, wires

    def _contradiction(self, group: h5py.Group) -> UserError:
        return self._damaged(f"the tables of '{group.name}' do not fit each other or the {len(self)} events")

    def _damaged(self, what: str) -> UserError:
        return UserError(f"'{self.path}' is damaged or incomplete: {what}; copy or write the file again.")


def _open_raw(path: Path) -> RawFile:
    try:
        return RawFile(path)
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror}.") from None


def _open(path: Path) -> h5py.File:
    try:
        # Lustre and GPFS are often mounted without file locks.
        return h5py.File(path, "r", locking=False)
    except OSError as error:
        if "signature" in str(error):
            raise _not_hdf5(path) from None
        raise UserError(f"Cannot open '{path}' as HDF5 ({error}); if it is incomplete, copy it again.") from None


def _not_hdf5(path: Path) -> UserError:
    return UserError(f"'{path}' is not an HDF5 file, so not a larcv3 file either.")


def _list_products(data: h5py.Group) -> tuple[Product, ...]:
    names = [name.removesuffix("_group").split("_", 1) for name in data if name.endswith("_group")]
    return tuple(sorted(Product(*name) for name in names if len(name) == 2))


def _end(extents: Records) -> int:
    """Say how long the table must be that `extents` points into."""
    used = extents[extents["N"] > 0]
    return int((used["first"] + used["N"]).max(initial=0))


def _owners(extents: Records) -> tuple[Integers, Integers]:
    """List the rows that `extents` points to: the number of the owning event, and the row."""
    count = extents["N"].astype(np.int64)
    event = np.repeat(np.arange(len(extents)), count)
    before = np.cumsum(count) - count
    return event, np.arange(len(event)) + (extents["first"].astype(np.int64) - before)[event]
