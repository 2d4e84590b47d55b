"""Events as the rest of the program sees them, and the protocol that every reader keeps."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

BACKGROUND, COSMIC, NEUTRINO = 0, 1, 2
CLASS_NAMES = ("background", "cosmic", "neutrino")


class EventId(NamedTuple):
    """The number of an event as the experiment counts: run, subrun, event."""

    run: int
    subrun: int
    event: int


class Product(NamedTuple):
    """A table group of a larcv3 file, such as type ``sparse2d`` by producer ``sbndwire``."""

    type: str
    producer: str


@dataclasses.dataclass(frozen=True)
class PlanePixels:
    """The active pixels of one plane.

    `index` (int32) is tick * width + wire in the image of `Event.shape`, strictly ascending; `value`
    (float32) the charge; `label` (uint8) 0 background, 1 cosmic, 2 neutrino, or None without labels.
    """

    index: npt.NDArray[np.int32]
    value: npt.NDArray[np.float32]
    label: npt.NDArray[np.uint8] | None


@dataclasses.dataclass(frozen=True)
class Event:
    """One image: all planes of one event. `shape` is (ticks, wires) of each plane."""

    entry: int
    event_id: EventId
    shape: tuple[int, int]
    planes: tuple[PlanePixels, ...]


class EventReader(Protocol):
    """Random access to the events of one or several larcv3 files, seen as one list of entries.

    Reading is safe from several threads at once.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """(ticks, wires) of the images that `read` returns, downsampling included."""

    @property
    def bytes_read(self) -> int:
        """Bytes taken from the files so far (compressed)."""

    @property
    def unmatched_labels(self) -> int:
        """Labels met so far whose pixel is not in the image; they are left out."""

    def __len__(self) -> int: ...

    def products(self) -> Sequence[Product]:
        """List what the files hold."""

    def sizes(self) -> npt.NDArray[np.int64]:
        """Count the pixels of each event, all planes together, before downsampling."""

    def read(self, entry: int) -> Event:
        """Read one event; raise UserError naming file, entry and plane where its content is not valid."""

    def particles(self, entry: int) -> npt.NDArray[np.void]:
        """Read the true particles of one event, one record each; empty where the file has none."""

    def describe(self, entry: int) -> str:
        """Name an entry in a message: its file and its number there."""

    def close(self) -> None:
        """Let go of the files."""
