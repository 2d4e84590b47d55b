"""Training curves: loss, accuracies, IoUs and learning rate against the step, from metrics.jsonl."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cosmictagger.reporting.metrics_log import read_lines
from cosmictagger.reporting.progress import metric_title

DOTS_PER_INCH = 110
PANEL = (9.0, 2.7)  # inches
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")  # Okabe and Ito
SMOOTHED = 40  # a smoothed point stands for one part in 40 of the training steps
Lines = Sequence[Mapping[str, Any]]


def draw_curves(metrics_file: Path, path: Path) -> bool:
    """Draw the curves of a metrics.jsonl into a PNG; returns False, and draws nothing, where it has no lines.

    Thin lines are single training steps, thick ones their running mean, dots validations.
    """
    lines = read_lines(metrics_file)
    if not lines:
        return False
    train = [line for line in lines if line.get("split") == "train"]
    validation = [line for line in lines if line.get("split") == "validation"]
    panels = _panels(lines)
    figure = Figure(figsize=(PANEL[0], PANEL[1] * len(panels) + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, names) in zip(grid, panels.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            _draw_train(axes, train, name, colour)
            _draw_validation(axes, validation, name, colour)
        _finish(axes, title)
    grid[-1].set_xlabel("step")
    figure.savefig(path)
    return True


def _panels(lines: Lines) -> dict[str, list[str]]:
    """Sort the names that occur into panels, by what they measure."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    panels = {
        "loss": [name for name in names if name == "loss"],
        "IoU": [name for name in names if name.endswith("iou")],
        "accuracy": [name for name in names if name.endswith("accuracy")],
        "learning rate": [name for name in names if name == "learning_rate"],
    }
    return {title: chosen for title, chosen in panels.items() if chosen} or {"loss": []}


def _points(lines: Lines, name: str) -> tuple[list[int], list[float]]:
    known = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return [step for step, _ in known], [value for _, value in known]


def _draw_train(axes: Axes, lines: Lines, name: str, colour: str) -> None:
    steps, values = _points(lines, name)
    width = max(1, len(values) // SMOOTHED)
    if name == "learning_rate" or width == 1:
        axes.plot(steps, values, color=colour, linewidth=1.5, label=metric_title(name))
        return
    axes.plot(steps, values, color=colour, linewidth=0.5, alpha=0.35)
    mean = np.convolve(values, np.ones(width) / width, mode="valid")
    axes.plot(steps[width - 1 :], mean, color=colour, linewidth=1.8, label=metric_title(name))


def _draw_validation(axes: Axes, lines: Lines, name: str, colour: str) -> None:
    steps, values = _points(lines, name)
    if values:
        label = f"{metric_title(name)}, validation"
        axes.plot(steps, values, color=colour, linestyle=":", marker="o", markersize=4, label=label)


def _finish(axes: Axes, title: str) -> None:
    axes.set_ylabel(title)
    axes.grid(alpha=0.3)
    if title == "loss":
        axes.set_yscale("log")
    if title in ("IoU", "accuracy"):
        axes.set_ylim(top=1.005)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, loc="best", ncols=2)
