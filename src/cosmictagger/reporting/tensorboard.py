"""TensorBoard: scalars, and pictures of charge, truth and prediction."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import Event
from cosmictagger.errors import UserError
from cosmictagger.reporting.raster import (
    Labels,
    charge_image,
    charge_range,
    class_image,
    fit_factor,
    max_pool,
    paint_charge,
    paint_classes,
)

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

DIRECTORY = "tensorboard"
TILE = (320, 512)  # most cells, ticks × wires, of one picture in the mosaic
GAP = 4  # cells of grey between pictures
GAP_GREY = 128


class TensorBoard:
    """Writer of event files under ``<log directory>/tensorboard``, on rank 0.

    `resume_step` is the step that the run goes on from: what an earlier run recorded after it is hidden. Raises
    UserError where the directory cannot be written or tensorboard is not installed.
    """

    def __init__(self, log_directory: Path, *, resume_step: int | None = None) -> None:
        purge_step = None if resume_step is None else resume_step + 1
        self._writer = _open_writer(log_directory / DIRECTORY, purge_step)

    def scalars(self, step: int, group: str, values: Mapping[str, float | None]) -> None:
        """Record numbers as ``<group>/<name>``, such as train/loss; None is left out."""
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def images(self, step: int, group: str, event: Event, predictions: Sequence[Labels]) -> None:
        """Record one event as a picture, ``<group>/event``; see `mosaic`."""
        self._writer.add_image(f"{group}/event", mosaic(event, predictions), step, dataformats="HWC")

    def flush(self) -> None:
        """Write out what is pending."""
        self._writer.flush()

    def close(self) -> None:
        """Write out what is pending and close the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def mosaic(event: Event, predictions: Sequence[Labels]) -> npt.NDArray[np.uint8]:
    """Paint an event as RGB uint8 [H, W, 3]: one row a plane; charge, truth (where known) and prediction in columns.

    Each picture is max-pooled to TILE or below, so that thin tracks survive; tick 0 is at the bottom.
    `predictions` holds the predicted class of each active pixel, uint8 [pixels] for each plane.
    """
    factor = fit_factor(event.shape, *TILE)
    low, high = charge_range(event.planes)
    rows = []
    for plane, prediction in zip(event.planes, predictions, strict=True):
        tiles = [paint_charge(max_pool(charge_image(plane, event.shape), factor), low, high)]
        for labels in (plane.label, prediction):
            if labels is not None:
                tiles.append(paint_classes(max_pool(class_image(plane, labels, event.shape), factor)))
        rows.append(_join([tile[::-1] for tile in tiles], axis=1))
    return _join(rows, axis=0)


def _join(pictures: Sequence[npt.NDArray[np.uint8]], axis: int) -> npt.NDArray[np.uint8]:
    shape = list(pictures[0].shape)
    shape[axis] = GAP
    gap = np.full(shape, GAP_GREY, dtype=np.uint8)
    parts = [pictures[0]]
    for picture in pictures[1:]:
        parts += [gap, picture]
    return np.concatenate(parts, axis=axis)


def _open_writer(directory: Path, purge_step: int | None) -> "SummaryWriter":
    try:
        # Imported here: it takes seconds, which ranks that write nothing need not spend.
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise UserError(f"TensorBoard cannot be loaded ({error}); run: pip install tensorboard.") from None
    try:
        return SummaryWriter(str(directory), purge_step=purge_step)
    except OSError as error:
        raise UserError(f"--log-directory: cannot write '{directory}': {error.strerror}.") from None
