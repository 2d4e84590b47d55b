"""Event displays: charge, truth and prediction of every plane of an event, as one PNG picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullFormatter
from numpy.lib.stride_tricks import sliding_window_view

from cosmictagger.data.events import NEUTRINO, Event, PlanePixels
from cosmictagger.errors import UserError
from cosmictagger.reporting.progress import format_value, metric_title
from cosmictagger.reporting.raster import (
    CHARGE_COLOURS,
    PALETTE,
    Labels,
    charge_image,
    charge_range,
    class_image,
    fit_factor,
    max_pool,
    paint_charge,
    paint_classes,
)

DISPLAY_DIRECTORY = "displays"  # in the log directory; the HTML report shows all that is in it
DOTS_PER_INCH = 150
PANEL = (4.3, 2.8)  # inches, width and height of one picture
RASTER = (320, 512)  # most cells, ticks × wires, a picture is pooled to: fewer than dots, so that no cell gets lost
MARGINS = {"left": 0.95, "right": 0.15, "top": 0.85, "bottom": 0.95}  # inches around all pictures
COARSE = 16  # the close-up is looked for on a grid of 16 × 16 cells…
REACH = 5  # …and is at most 5 of them wide and high
ZOOM_MARGIN, ZOOM_LEAST = 0.1, 48  # room around the pixels in it, as a share of its size; least size in pixels
CLASS_LEGEND = (("noise", 1), ("cosmic", 2), ("neutrino", 3))


class Window(NamedTuple):
    """A part of a plane: ticks [top, bottom), wires [left, right)."""

    top: int
    bottom: int
    left: int
    right: int


def display_path(log_directory: Path, entry: int) -> Path:
    """Name the picture of an entry; names sort like entries."""
    return log_directory / DISPLAY_DIRECTORY / f"entry_{entry:07d}.png"


def draw_event(
    path: Path,
    event: Event,
    predictions: Sequence[Labels] | None = None,
    metrics: Mapping[str, float] | None = None,
    truth: str | None = None,
) -> None:
    """Draw an event into a PNG: one row a plane; charge, truth, prediction and a close-up of the neutrino in columns.

    `predictions` holds the predicted class of each active pixel, uint8 [pixels] for each plane. Truth is left
    out where the event has no labels, the close-up where nothing is called neutrino. `metrics` go in the title, and
    `truth`, words for what happened. Raises UserError where the file cannot be written.
    """
    columns = _columns(event, predictions)
    figure = Figure(figsize=(PANEL[0] * len(columns), PANEL[1] * len(event.planes) + 1.8), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(event.planes), len(columns), squeeze=False)
    charges = charge_range(event.planes)
    for number, plane in enumerate(event.planes):
        prediction = None if predictions is None else predictions[number]
        for axes, column in zip(grid[number], columns, strict=True):
            _draw_panel(axes, column, plane, prediction, event.shape, charges)
        grid[number, 0].set_ylabel(f"plane {number}\ntick")
    for axes, column in zip(grid[0], columns, strict=True):
        axes.set_title(column, fontsize=11)
    for axes in grid[-1]:
        axes.set_xlabel("wire")
    _decorate(figure, event, columns, metrics, truth, charges)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"--log-directory: cannot write '{path}': {error.strerror}.") from None


def zoom_window(plane: PlanePixels, labels: Labels, shape: tuple[int, int]) -> Window | None:
    """Return the part of a plane where most of the pixels called neutrino are, with a margin; None without any.

    Stray pixels far from the others do not widen it.
    """
    index = plane.index[labels == NEUTRINO]
    if not len(index):
        return None
    ticks, wires = np.divmod(index, shape[1])
    cells, tick_edges, wire_edges = np.histogram2d(ticks, wires, bins=COARSE, range=((0, shape[0]), (0, shape[1])))
    counts = sliding_window_view(cells, (REACH, REACH)).sum(axis=(2, 3))
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    inside = (ticks >= tick_edges[row]) & (ticks < tick_edges[row + REACH])
    inside &= (wires >= wire_edges[column]) & (wires < wire_edges[column + REACH])
    return Window(*_span(ticks[inside], shape[0]), *_span(wires[inside], shape[1]))


def _span(positions: npt.NDArray[np.int32], limit: int) -> tuple[int, int]:
    first, last = int(positions.min()), int(positions.max()) + 1
    size = min(max(round((last - first) * (1 + 2 * ZOOM_MARGIN)), ZOOM_LEAST), limit)
    begin = min(max(0, (first + last - size) // 2), limit - size)
    return begin, begin + size


def _columns(event: Event, predictions: Sequence[Labels] | None) -> list[str]:
    labelled = all(plane.label is not None for plane in event.planes)
    columns = ["charge"]
    if labelled:
        columns.append("truth")
    if predictions is not None:
        columns.append("prediction")
    shown = [_shown(plane, predictions, number) for number, plane in enumerate(event.planes)]
    if any(labels is not None and (labels == NEUTRINO).any() for labels in shown):
        columns.append(f"{columns[-1]}, close up")
    return columns


def _shown(plane: PlanePixels, predictions: Sequence[Labels] | None, number: int) -> Labels | None:
    """Return the labels that the close-up is centred on: truth, where known."""
    if plane.label is not None:
        return plane.label
    return None if predictions is None else predictions[number]


def _draw_panel(
    axes: Axes,
    column: str,
    plane: PlanePixels,
    prediction: Labels | None,
    shape: tuple[int, int],
    charges: tuple[float, float],
) -> None:
    axes.tick_params(labelsize=8)
    marked = plane.label if plane.label is not None else prediction
    window = None if marked is None else zoom_window(plane, marked, shape)
    if column == "charge":
        pooled = max_pool(charge_image(plane, shape), fit_factor(shape, *RASTER))
        _show(axes, paint_charge(pooled, *charges), Window(0, shape[0], 0, shape[1]))
        return
    labels = prediction if column.startswith("prediction") else plane.label
    if labels is None:
        raise ValueError(f"no labels for the column '{column}'")
    image = class_image(plane, labels, shape)
    if not column.endswith("close up"):
        _show(axes, paint_classes(max_pool(image, fit_factor(shape, *RASTER))), Window(0, shape[0], 0, shape[1]))
        if window is not None:
            _outline(axes, window)
    elif window is None:
        axes.axis("off")
    else:
        part = image[window.top : window.bottom, window.left : window.right]
        factor = fit_factor((part.shape[0], part.shape[1]), *RASTER)
        _show(axes, paint_classes(max_pool(part, factor)), window)


def _show(axes: Axes, rgb: npt.NDArray[np.uint8], window: Window) -> None:
    extent = (window.left, window.right, window.top, window.bottom)
    axes.imshow(rgb, origin="lower", extent=extent, aspect="auto", interpolation="nearest")


def _outline(axes: Axes, window: Window) -> None:
    corner = (window.left, window.top)
    size = (window.right - window.left, window.bottom - window.top)
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor="black", linewidth=0.7, linestyle="--"))


def _decorate(
    figure: Figure,
    event: Event,
    columns: Sequence[str],
    metrics: Mapping[str, float] | None,
    truth: str | None,
    charges: tuple[float, float],
) -> None:
    name = event.event_id
    title = f"entry {event.entry}: run {name.run}, subrun {name.subrun}, event {name.event}" + (
        f" ({truth})" if truth else ""
    )
    if metrics:
        title += "\n" + "   ".join(f"{metric_title(key)} {format_value(value)}" for key, value in metrics.items())
    width, height = figure.get_figwidth(), figure.get_figheight()
    figure.suptitle(title, fontsize=12, y=1 - 0.1 / height, va="top")
    figure.subplots_adjust(
        left=MARGINS["left"] / width,
        right=1 - MARGINS["right"] / width,
        top=1 - MARGINS["top"] / height,
        bottom=MARGINS["bottom"] / height,
        wspace=0.13,
        hspace=0.14,
    )
    if len(columns) > 1:
        handles = [Patch(color=PALETTE[code] / 255, label=label) for label, code in CLASS_LEGEND]
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.6, 0.0), ncols=len(handles), frameon=False)
    first = figure.axes[0].get_position()
    bar = figure.add_axes((first.x0, 0.3 / height, first.width, 0.1 / height))
    norm = LogNorm(*charges)
    figure.colorbar(mpl.cm.ScalarMappable(norm, CHARGE_COLOURS), cax=bar, orientation="horizontal")
    bar.set_title("charge", fontsize=8, loc="left", pad=2)
    bar.xaxis.set_minor_formatter(NullFormatter())  # of a short range every number would be written
    bar.tick_params(labelsize=7)
