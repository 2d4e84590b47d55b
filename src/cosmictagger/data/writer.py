"""Writes larcv3 files, event by event."""

import contextlib
import os
import re
import types
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from cosmictagger.data import layout
from cosmictagger.data.encode import PUT, PlaneGeometry
from cosmictagger.data.events import EventId, Product
from cosmictagger.data.growing_table import GrowingTable
from cosmictagger.data.products import AnyProduct
from cosmictagger.errors import UserError

SBND_SHAPE = (1280, 2048)


class LarcvWriter:
    """A larcv3 file in the making; use it as a context manager.

    The file grows under a temporary name beside `path` and takes its name, replacing any earlier file, when
    the block ends well; after an exception nothing is left. Memory does not grow with the number of events.
    Not for several threads at once.

    `shape` is (ticks, wires) of every plane; `size` and `origin` of the image are (wire, tick), by default the
    number of pixels and 0; `compression` is 0 (none) to 3. Raises UserError where the file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int] = SBND_SHAPE,
        size: tuple[float, float] | None = None,
        origin: tuple[float, float] = (0.0, 0.0),
        compression: int = 1,
    ) -> None:
        if not 0 <= compression <= 3:
            raise ValueError(f"compression must be 0 to 3, not {compression}")
        self._path = Path(path)
        self._temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        self._geometry = PlaneGeometry(shape=shape, size=size or (shape[1], shape[0]), origin=origin)
        self._compression = compression
        self._tables: dict[Product, dict[str, GrowingTable]] = {}
        self._file = self._create()
        self._event_ids = GrowingTable(self._file.create_group("Events"), layout.EVENT_ID_TABLE, compression)
        self._file.create_group(layout.DATA_GROUP)

    def __enter__(self) -> "LarcvWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            with contextlib.suppress(OSError, RuntimeError):  # said already, or the file is thrown away
                self._file.close()
            self._temporary.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._event_ids)

    def append(self, event_id: EventId, products: Mapping[Product, AnyProduct]) -> None:
        """Add an event. Every event must bring the same products as the first; ValueError otherwise."""
        self._check(products)
        if not len(self):
            self._tables = {name: self._create_tables(name) for name in products}
        self._event_ids.append(np.array([tuple(event_id)], layout.EVENT_ID))
        try:
            for name, product in products.items():
                PUT[type(product)](self._tables[name], product, self._geometry)
        except (OSError, RuntimeError) as error:  # h5py raises either when the disk is full
            raise self._failure(error) from error

    def _check(self, products: Mapping[Product, AnyProduct]) -> None:
        if len(self) and products.keys() != self._tables.keys():
            raise ValueError(f"event {len(self)} has {sorted(products)}, the events before {sorted(self._tables)}")
        for name, product in products.items():
            if name.type != product.type:
                raise ValueError(f"{name} cannot hold a {type(product).__name__}; its type is {product.type}")
            if not name.producer or "/" in name.producer:
                raise UserError(f"'{name.producer}' cannot name a producer; use letters, digits and underscores.")

    def _create(self) -> h5py.File:
        if self._path.is_dir():
            raise UserError(f"Cannot write '{self._path}': it is a directory; name a file in it.")
        if not self._path.parent.is_dir():
            raise UserError(f"Cannot write '{self._path}': there is no directory '{self._path.parent}'; make it first.")
        try:
            self._temporary.touch()
            return h5py.File(self._temporary, "w", locking=False)
        except OSError as error:
            raise self._failure(error) from error

    def _create_tables(self, name: Product) -> dict[str, GrowingTable]:
        group = self._file.create_group(layout.group_path(*name))
        return {table.name: GrowingTable(group, table, self._compression) for table in layout.PRODUCT_TABLES[name.type]}

    def _finish(self) -> None:
        try:
            for table in (self._event_ids, *(table for tables in self._tables.values() for table in tables.values())):
                table.finish()
            self._file.close()
            self._temporary.replace(self._path)
        except (OSError, RuntimeError) as error:
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> UserError:
        inner = re.search(r"error message = '([^']*)'", str(error))  # HDF5 wraps what the system said
        reason = inner[1] if inner else getattr(error, "strerror", None) or error
        return UserError(f"Cannot write '{self._path}': {reason}; check its directory's permissions and free space.")
