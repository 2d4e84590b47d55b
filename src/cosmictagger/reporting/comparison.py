"""A page that shows how alike two sets of events are: pictures side by side, histograms, and a table of medians."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cosmictagger.data.events import CLASS_NAMES, NEUTRINO, Event, EventReader
from cosmictagger.errors import UserError
from cosmictagger.reporting.displays import zoom_window
from cosmictagger.reporting.files import write_atomically
from cosmictagger.reporting.raster import (
    charge_image,
    charge_range,
    class_image,
    fit_factor,
    max_pool,
    paint_charge,
    paint_classes,
)
from cosmictagger.reporting.report import STYLE
from cosmictagger.simulate.compare import CHARGE_EDGES, FACTOR, Row, Summary, agreement, summarize

DOTS_PER_INCH = 100
PANEL = (5.0, 3.0)  # inches
RASTER = (400, 640)  # most cells, ticks × wires, of a picture
COLOURS = ("#0072B2", "#D55E00")  # this simulation, the reference
ENERGY = (0.8, 2.0)  # GeV, of the neutrinos whose pixels are compared
Progress = Callable[[int], None]
Names = tuple[str, str]


def write_comparison(
    path: Path,
    simulated: EventReader,
    reference: EventReader,
    *,
    names: Names = ("this simulation", "SBND simulation"),
    energy: tuple[float, float] = ENERGY,
    pictures: int = 3,
    command: str = "",
    progress: Progress | None = None,
) -> list[Row]:
    """Compare all events of two readers; write an HTML page to `path` and its histograms beside it as PNG.

    The page needs no other file. `energy` in GeV bounds the charged-current events whose neutrino pixels are
    compared, `pictures` is the number of pairs of events shown, `command` what made the page. Returns the table;
    raises UserError where the files cannot be written.
    """
    summaries = summarize(simulated, energy=energy, progress=progress), summarize(reference, energy=energy)
    rows = agreement(*summaries)
    histograms = _png(_draw_histograms(summaries, names))
    pairs = match_events(simulated, reference, pictures)
    images = [
        _png(_draw_pair((simulated.read(a), reference.read(b)), names, near)) for a, b in pairs for near in (0, 1)
    ]
    page = _page(rows, summaries, names, energy, command, histograms, images)
    try:
        write_atomically(path, page)
        path.with_suffix(".png").write_bytes(histograms)
    except OSError as error:
        raise UserError(f"cannot write '{path}': {error.strerror}; name a file in an existing directory.") from None
    return rows


def match_events(simulated: EventReader, reference: EventReader, count: int) -> list[tuple[int, int]]:
    """Pair the first `count` reference entries with the simulated ones most like them.

    Alike are the neutrino's flavour, its current and its energy; events without particles match in order.
    """
    mine = [_kind(simulated, entry) for entry in range(len(simulated))]
    pairs = []
    for entry in range(min(count, len(reference))):
        kind, energy = _kind(reference, entry)
        distance = [abs(e - energy) + 100 * (k != kind) for k, e in mine]
        best = int(np.argmin(distance))
        mine[best] = ((-1, -1), np.inf)
        pairs.append((best, entry))
    return pairs


def _kind(reader: EventReader, entry: int) -> tuple[tuple[int, int], float]:
    particles = reader.particles(entry)
    if not len(particles):
        return (0, 0), 0.0
    first = particles[0]
    return (int(first["pdg"]), int(first["current_type"])), float(first["energy_init"])


def _draw_pair(events: tuple[Event, Event], names: Names, near: int) -> Figure:
    """Draw charge and truth of two events in four columns; `near` shows the part where the neutrino is."""
    planes = len(events[0].planes)
    figure = Figure(figsize=(PANEL[0] * 4, PANEL[1] * planes + 0.4), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(planes, 4, squeeze=False)
    for side, (event, name) in enumerate(zip(events, names, strict=True)):
        low, high = charge_range(event.planes)
        for number in range(planes):
            rows, columns = _window(event, number, near)
            charge, classes = _cut(event, number, rows, columns)
            extent = (columns.start, columns.stop, rows.start, rows.stop)
            for axes, picture in (
                (grid[number, side], paint_charge(charge, low, high)),
                (grid[number, side + 2], paint_classes(classes)),
            ):
                axes.imshow(picture, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
                axes.tick_params(labelsize=7)
        grid[0, side].set_title(f"charge, {name}", fontsize=10)
        grid[0, side + 2].set_title(f"truth, {name}", fontsize=10)
    for number in range(planes):
        grid[number, 0].set_ylabel(f"plane {number}\ntick")
    return figure


def _window(event: Event, number: int, near: int) -> tuple[slice, slice]:
    plane = event.planes[number]
    window = zoom_window(plane, plane.label, event.shape) if near and plane.label is not None else None
    if window is None:
        return slice(0, event.shape[0]), slice(0, event.shape[1])
    return slice(window.top, window.bottom), slice(window.left, window.right)


def _cut(
    event: Event, number: int, rows: slice, columns: slice
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    plane = event.planes[number]
    labels = np.zeros(len(plane.index), np.uint8) if plane.label is None else plane.label
    charge = charge_image(plane, event.shape)[rows, columns]
    factor = fit_factor((charge.shape[0], charge.shape[1]), *RASTER)
    return max_pool(charge, factor), max_pool(class_image(plane, labels, event.shape)[rows, columns], factor)


def _draw_histograms(summaries: tuple[Summary, Summary], names: Names) -> Figure:
    planes = summaries[0].pixels.shape[1]
    rows = 2 * len(CLASS_NAMES) + 2
    figure = Figure(figsize=(PANEL[0] * planes, 2.3 * rows), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, planes, squeeze=False)
    for plane in range(planes):
        for label, name in enumerate(CLASS_NAMES):
            counts = [_counts(summary, plane, label) for summary in summaries]
            _draw_values(grid[2 * label, plane], counts, f"{name} pixels, plane {plane}")
            charges = [
                summary.charges[plane, label] / max(1, summary.charges[plane, label].sum()) for summary in summaries
            ]
            _draw_charges(grid[2 * label + 1, plane], charges, f"charge of {name} pixels, plane {plane}")
        _draw_halves(grid[-2, plane], [summary.halves[:, plane] for summary in summaries], plane)
        lengths = [summary.tracks[plane] for summary in summaries]
        _draw_values(grid[-1, plane], lengths, f"cosmic track lengths, plane {plane} [pixels]")
    handles = grid[0, 0].get_legend_handles_labels()[0]
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False)
    return figure


def _counts(summary: Summary, plane: int, label: int) -> npt.NDArray[np.float64]:
    chosen = summary.comparable if label == NEUTRINO else np.ones(len(summary.pixels), bool)
    counts: npt.NDArray[np.float64] = summary.pixels[chosen, plane, label]
    return counts


def _draw_values(axes: Axes, values: Sequence[npt.NDArray[np.float64]], title: str) -> None:
    """Histogram the first, and mark each value of a second set too small for a histogram."""
    top = max((float(np.quantile(part, 0.98)) for part in values if len(part)), default=1.0)
    edges = np.linspace(0, max(top, 1.0) * 1.1, 25).tolist()
    for part, colour in zip(values, COLOURS, strict=True):
        if len(part) > 10 or colour == COLOURS[0]:
            weights = np.full(len(part), 1 / max(1, len(part)))
            axes.hist(part, edges, weights=weights, histtype="step", color=colour, linewidth=1.5, label="-")
        else:
            for number, value in enumerate(part):
                axes.axvline(value, color=colour, linewidth=1.5, label="-" if number == 0 else None)
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)


def _draw_charges(axes: Axes, shares: Sequence[npt.NDArray[np.float64]], title: str) -> None:
    for share, colour in zip(shares, COLOURS, strict=True):
        axes.stairs(share, CHARGE_EDGES, color=colour, linewidth=1.5)
    axes.set_xscale("log")
    axes.set_title(title, fontsize=9)
    axes.tick_params(labelsize=7)


def _draw_halves(axes: Axes, halves: Sequence[npt.NDArray[np.float64]], plane: int) -> None:
    for part, colour, place in zip(halves, COLOURS, (-0.15, 0.15), strict=True):
        middle = np.median(part, axis=0)
        low, high = np.quantile(part, (1 / 6, 5 / 6), axis=0)
        axes.errorbar(np.arange(2) + place, middle, (middle - low, high - middle), fmt="o", color=colour, capsize=3)
    axes.set_xticks([0, 1], ["lower half", "upper half"])
    axes.set_ylim(bottom=0)
    axes.set_title(f"pixels in either half of the ticks, plane {plane}", fontsize=9)
    axes.tick_params(labelsize=7)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _page(
    rows: Sequence[Row],
    summaries: tuple[Summary, Summary],
    names: Names,
    energy: tuple[float, float],
    command: str,
    histograms: bytes,
    images: Sequence[bytes],
) -> str:
    counts = [len(summary.pixels) for summary in summaries]
    comparable = [int(summary.comparable.sum()) for summary in summaries]
    title = f"{names[0]} and {names[1]}"
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p>{counts[0]} events of {html.escape(names[0])}, {counts[1]} of {html.escape(names[1])}. Neutrino pixels are "
        f"compared in charged-current events of {energy[0]:g} to {energy[1]:g} GeV: {comparable[0]} and {comparable[1]}.</p>",
        f"<pre>{html.escape(command)}</pre>" if command else "",
        "<h2>Medians over events</h2>",
        _table(rows, names, counts[1]),
        "<h2>Events side by side</h2><p>Grey: noise, blue: cosmic, orange: neutrino. Below each pair: the neutrino.</p>",
        *(_image(image) for image in images),
        "<h2>Histograms</h2>",
        _image(histograms),
    ]
    return (
        f"<!doctype html><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style>"
        + "\n".join(parts)
    )


def _table(rows: Sequence[Row], names: Names, count: int) -> str:
    head = ["", "plane", *names, "ratio", f"median of {count} simulated events, 2/3 of cases"]
    lines = ["<table><thead><tr>" + "".join(f"<th>{html.escape(str(text))}</th>" for text in head) + "</tr></thead>"]
    for row in rows:
        what = f"{row.label} pixels" if row.quantity == "pixels" else f"charge of {row.label} pixels"
        mark = "" if row.agrees else f" <b class='bad'>beyond a factor {FACTOR:g}</b>"
        cells = [what, row.plane, f"{row.simulated:.4g}", f"{row.reference:.4g}", f"{row.ratio:.2f}{mark}"]
        cells.append(f"{row.spread[0]:.4g} to {row.spread[1]:.4g}")
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join([*lines, "</table>"])


def _image(png: bytes) -> str:
    return f"<img src='data:image/png;base64,{base64.b64encode(png).decode()}' alt=''>"
