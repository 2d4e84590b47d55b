"""How far a run is: the words of a step line, and the bar that shows it in place on a terminal."""

import math
import time
from collections.abc import Callable, Mapping

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn


class Pace:
    """Estimates the time left from the steps done since `first` of `steps` steps."""

    def __init__(self, first: int, steps: int, now: Callable[[], float] = time.monotonic) -> None:
        self.first, self.steps = first, steps
        self._now = now
        self._began = now()

    def seconds_left(self, step: int) -> float | None:
        """Return the seconds left after `step`, validations and the like included; None while nothing is known."""
        done = step - self.first
        return (self._now() - self._began) / done * (self.steps - step) if done > 0 else None


class ProgressBar:
    """A progress line on a terminal, redrawn in place."""

    def __init__(self, console: RichConsole, first: int, steps: int) -> None:
        columns = (
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(24),
            TextColumn("{task.fields[words]}"),
        )
        # Redrawn by `show` alone: a refresh thread of rich's would compete with the compute threads.
        self._progress = Progress(*columns, console=console, auto_refresh=False, transient=True)
        self._task = self._progress.add_task("", total=steps, completed=first, words="")
        self._progress.start()

    def show(self, step: int, words: str) -> None:
        """Move the bar to `step`, with the words of `step_words` beside it."""
        self._progress.update(self._task, completed=step, words=words)
        self._progress.refresh()

    def stop(self) -> None:
        """Take the bar off the terminal."""
        self._progress.stop()


def step_words(values: Mapping[str, float], images_per_second: float | None, seconds_left: float | None) -> str:
    """Say loss and metrics by name, images/s and the time left; what is not known is left out."""
    words = [f"{name} {format_value(value)}" for name, value in values.items()]
    if images_per_second is not None:
        words.append(f"{format_rate(images_per_second)} images/s")
    if seconds_left is not None:
        words.append(f"ETA {format_duration(seconds_left)}")
    return "  ".join(words)


def format_value(value: float | None) -> str:
    """Write a loss or metric with four significant digits, a fixed point where that is short; None is a dash."""
    if value is None:
        return "-"
    return f"{value:.4f}" if 0.01 <= abs(value) < 10 or value == 0 else f"{value:.4g}"


def format_rate(rate: float) -> str:
    """Write a rate in fixed point, with four significant digits and at least one decimal: 123.4, 15.40, 0.2345."""
    if rate <= 0 or not math.isfinite(rate):
        return f"{rate:.1f}"
    return f"{rate:.{min(max(3 - math.floor(math.log10(rate)), 1), 9)}f}"


def format_duration(seconds: float) -> str:
    """Write a time span as m:ss or h:mm:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def metric_title(name: str) -> str:
    """Write the name of a metric for people: ``cosmic_iou`` becomes "cosmic IoU"."""
    return " ".join({"iou": "IoU"}.get(word, word) for word in name.split("_"))
