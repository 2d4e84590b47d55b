"""The only place that prints: progress on a terminal, plain lines elsewhere and in log.txt."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TextIO

from rich.console import Console as RichConsole
from rich.table import Table
from rich.text import Text

from cosmictagger.config.resolve import all_options, to_dict, to_yaml
from cosmictagger.config.sections import Config
from cosmictagger.errors import UserError
from cosmictagger.metrics.interactions import InteractionGroup
from cosmictagger.reporting.interactions import INTERACTION_COLUMNS, interaction_cells
from cosmictagger.reporting.progress import Pace, ProgressBar, format_rate, format_value, step_words
from cosmictagger.reporting.streams import QuietStream

LOG_FILE = "log.txt"


class Console:
    """What rank 0 says, to the terminal and to a log file; on other ranks all but `error(rank=…)` is silent.

    `verbosity` 0 says results and errors, 1 progress too, 2 details too; the log file gets everything.
    Broken or closed streams are dropped silently. `stdout` and `stderr` stand in for those of `sys`, `now` for
    the wall clock in seconds.
    """

    def __init__(
        self,
        verbosity: int = 1,
        *,
        is_root: bool = True,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._verbosity = verbosity
        self._is_root = is_root
        self._now = now
        self._out = QuietStream(stdout if stdout is not None else sys.stdout)
        self._err = QuietStream(stderr if stderr is not None else sys.stderr)
        self._log = QuietStream(None)
        self._rich = _rich_console(self._out)
        self._pace: Pace | None = None
        self._bar: ProgressBar | None = None

    def open_log(self, log_directory: Path) -> None:
        """Append to log.txt in `log_directory` from now on (rank 0); raise UserError where it cannot be opened."""
        if not self._is_root:
            return
        path = log_directory / LOG_FILE
        try:
            self._log = QuietStream(path.open("a", encoding="utf-8", buffering=1))
        except OSError as error:
            raise UserError(f"--log-directory: cannot write '{path}': {error.strerror}.") from None

    def result(self, text: str) -> None:
        """Say what the run was made for, at every verbosity, on stdout."""
        self._say(text, 0)

    def info(self, text: str) -> None:
        """Say how the run goes."""
        self._say(text, 1)

    def detail(self, text: str) -> None:
        """Say what only those want to know who look for something."""
        self._say(text, 2)

    def warning(self, text: str) -> None:
        """Say on stderr what may be wrong, and go on."""
        if self._is_root:
            self._write_error(f"warning: {text}")

    def error(self, text: str, *, rank: int | None = None) -> None:
        """Say on stderr what ends the run; given `rank`, on every rank, and naming it."""
        if rank is not None:
            self._write_error(f"[rank {rank}] error: {text}")
        elif self._is_root:
            self._write_error(f"error: {text}")

    def configuration(self, config: Config) -> None:
        """Show the resolved configuration: side by side on a terminal, as YAML elsewhere.

        On a terminal the values that differ from their defaults stand out.
        """
        text = to_yaml(config).rstrip()
        if self._rich is not None and self._speaks(1):
            self._write_log(text)
            self._rich.print(_settings_table(to_dict(config)))
        else:
            self.info(text)

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table at every verbosity; the first column is left-aligned, the others right-aligned."""
        text = plain_table(title, columns, rows)
        if self._rich is None or not self._speaks(0):
            self.result(text)
            return
        self._write_log(text)
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(columns):
            table.add_column(Text(name), justify="right" if number else "left")
        for row in rows:
            table.add_row(*(Text(cell) for cell in row))
        self._rich.print(table)

    def metrics_table(
        self, title: str, average: Mapping[str, float | None], planes: Sequence[Mapping[str, float | None]]
    ) -> None:
        """Show metrics by name: for each plane, and averaged."""
        columns = ("metric", *(f"plane {number}" for number in range(len(planes))), "average")
        rows = [
            (name, *(format_value(plane.get(name)) for plane in planes), format_value(value))
            for name, value in average.items()
        ]
        self.table(title, columns, rows)

    def interactions_table(self, groups: Sequence[InteractionGroup]) -> None:
        """Show the metrics of each kind of interaction and range of energy."""
        self.table("By interaction", INTERACTION_COLUMNS, [interaction_cells(group) for group in groups])

    def begin_steps(self, first: int, steps: int) -> None:
        """Announce that steps `first` + 1 to `steps` follow, each logged with `step_line`; end with `end_steps`."""
        self._pace = Pace(first, steps, self._now)
        if self._rich is not None and self._speaks(1):
            self._bar = ProgressBar(self._rich, first, steps)

    def step_line(self, step: int, values: Mapping[str, float], images_per_second: float | None = None) -> None:
        """Report a step: loss and metrics by name, images/s; on a terminal the line before it is overwritten."""
        if self._pace is None or not self._is_root:
            return
        words = step_words(values, images_per_second, self._pace.seconds_left(step))
        line = f"step {step}/{self._pace.steps}  {words}"
        if self._bar is None:
            self.info(line)
        else:
            self._write_log(line)
            self._bar.show(step, words)

    def end_steps(self) -> None:
        """Take the progress line off the terminal; does nothing where there is none."""
        if self._bar is not None:
            self._bar.stop()
        self._pace, self._bar = None, None

    def figures_of_merit(self, images_per_second: float, ranks: int) -> None:
        """Say the throughput in two lines whose form never changes, for ReFrame and its like to match."""
        self.result(f"Total img/sec on {ranks} rank(s): {format_rate(images_per_second)}")
        self.result(f"Img/sec per rank: {format_rate(images_per_second / ranks)}")

    def close(self) -> None:
        """End the progress line and close the log file."""
        self.end_steps()
        self._out.flush()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _speaks(self, level: int) -> bool:
        return self._is_root and self._verbosity >= level

    def _say(self, text: str, level: int) -> None:
        if not self._is_root:
            return
        self._write_log(text)
        if not self._speaks(level):
            return
        if self._bar is not None and self._rich is not None:
            self._rich.print(Text(text))  # rich moves the bar out of the way
        else:
            self._out.write(text + "\n")
            self._out.flush()

    def _write_error(self, text: str) -> None:
        self._write_log(text)
        if self._bar is not None and self._rich is not None and self._err.isatty():
            self._rich.print(Text(text))
        else:
            self._err.write(text + "\n")
            self._err.flush()

    def _write_log(self, text: str) -> None:
        if self._is_root:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self._now()))
            self._log.write("".join(f"{when}  {line}\n" for line in text.splitlines()))


def _rich_console(stream: QuietStream) -> RichConsole | None:
    """Return rich's console for a terminal that can move its cursor, and None for any other stream."""
    if not stream.isatty():
        return None
    # On the quiet stream: on a bare one, rich ends the process when the pipe breaks.
    console = RichConsole(file=stream, highlight=False)  # type: ignore[arg-type]
    return None if console.is_dumb_terminal else console


def plain_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay a table out in plain text: a title line, then aligned columns."""
    lines = [tuple(columns), *(tuple(row) for row in rows)]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    body = [
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([title, *("  " + line for line in body)])


def _settings_table(settings: Mapping[str, Mapping[str, Any]]) -> Table:
    """Lay the sections out side by side, as far as the terminal is wide."""
    options = all_options()
    grid = Table.grid(padding=(0, 3))
    cells = []
    for section, values in settings.items():
        table = Table.grid(padding=(0, 2))
        table.add_row(Text(section, style="bold cyan"))
        for key, value in values.items():
            default = options[key][1].default
            default = list(default) if isinstance(default, tuple) else default
            words = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            table.add_row(Text(key), Text(words, style="dim" if value == default else "bold yellow"))
        cells.append(table)
    for pair in range(0, len(cells), 2):
        grid.add_row(*cells[pair : pair + 2])
        grid.add_row("")
    return grid
