"""What inference leaves: a larcv3 file of predictions, a table of metrics, event displays."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from cosmictagger.data.events import CLASS_NAMES, Event, Product
from cosmictagger.data.products import Pixels, Sparse2D
from cosmictagger.data.writer import LarcvWriter
from cosmictagger.errors import UserError
from cosmictagger.metrics.values import METRICS
from cosmictagger.reporting.interactions import interaction_words

Scores = Sequence[npt.NDArray[np.float32]]  # for each plane, [pixels, 3]


class PredictionWriter:
    """Writes the predictions of events as they come; nothing takes its final name before the block ends well.

    The file holds the products sparse2d_<producer> (predicted class) and sparse2d_<producer>_<class> (score) on
    the active pixels of the input. `table` is None where there are no labels to compare with.
    """

    def __init__(
        self, path: Path, producer: str, shape: tuple[int, int], full_size: tuple[float, float],
        *, table: Path | None, log_directory: Path, displays: int,
    ) -> None:  # fmt: skip
        self._file = LarcvWriter(path, shape=shape, size=full_size)
        self._tags = Product("sparse2d", producer)
        self._scores = tuple(Product("sparse2d", f"{producer}_{name}") for name in CLASS_NAMES)
        self._table = table
        self.rows: list[dict[str, Any]] = []  # of the table
        self._displays, self._log_directory = displays, log_directory

    def __enter__(self) -> Self:
        self._file.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, trace)
        if kind is None and self._table is not None and self.rows:
            _write_table(self._table, self.rows)

    def write(self, event: Event, scores: Scores, metrics: dict[str, Any] | None) -> None:
        """Add an event with the scores of its active pixels, and its row of the table where it has labels."""
        tags = [plane.argmax(axis=1).astype(np.uint8) for plane in scores]
        indices = [plane.index for plane in event.planes]
        products = {self._tags: Sparse2D([Pixels(i, tag) for i, tag in zip(indices, tags, strict=True)])}
        for kind, product in enumerate(self._scores):
            products[product] = Sparse2D([Pixels(i, s[:, kind]) for i, s in zip(indices, scores, strict=True)])
        number = len(self._file)
        self._file.append(event.event_id, products)
        if metrics is not None:
            self.rows.append({"entry": event.entry, **event.event_id._asdict(), **metrics})
        if number < self._displays:
            from cosmictagger.reporting.displays import display_path, draw_event  # matplotlib, which few ranks need

            path = display_path(self._log_directory, event.entry)
            path.parent.mkdir(parents=True, exist_ok=True)
            shown, truth = None, None
            if metrics is not None:
                shown = {name: metrics[name] for name in METRICS}
                if "interaction" in metrics:
                    truth = interaction_words(metrics["interaction"], metrics["neutrino_energy"])
            draw_event(path, event, tags, shown, truth)


def _write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, rows[0].keys())
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"--log-directory: cannot write '{path}': {error.strerror}.") from None
