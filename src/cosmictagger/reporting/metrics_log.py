"""metrics.jsonl: the course of a run, one line of JSON for each logged step."""

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from cosmictagger.errors import UserError
from cosmictagger.reporting.files import to_json, write_atomically

Split = Literal["train", "validation"]


def metrics_path(log_directory: Path, mode: str = "train") -> Path:
    """Name the file of a mode: metrics.jsonl for train, metrics.<mode>.jsonl for the others."""
    return log_directory / ("metrics.jsonl" if mode == "train" else f"metrics.{mode}.jsonl")


class MetricsLog:
    """Writer of metrics.jsonl, on rank 0; every line is in the file when `write` returns.

    `resume_step` is the step that the run goes on from: lines of later steps are dropped first, as those steps
    are done again. None begins an empty file. Raises UserError where the file cannot be written.
    """

    def __init__(
        self,
        log_directory: Path,
        mode: str = "train",
        *,
        resume_step: int | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._now = now
        path = metrics_path(log_directory, mode)
        try:
            kept = read_lines(path) if resume_step is not None else []
            kept = [line for line in kept if resume_step is not None and line["step"] <= resume_step]
            write_atomically(path, "".join(to_json(line) + "\n" for line in kept))
            self._stream = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise UserError(f"--log-directory: cannot write '{path}': {error.strerror}.") from None

    def write(self, step: int, split: Split, values: Mapping[str, Any]) -> None:
        """Append one line: step, split, unix time in seconds, then `values` (flat: name to number)."""
        line = {"step": step, "split": split, "time": round(self._now(), 3), **values}
        self._stream.write(to_json(line) + "\n")

    def close(self) -> None:
        """Close the file."""
        self._stream.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a metrics file; a line cut short by a crash is left out, no file has none."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
