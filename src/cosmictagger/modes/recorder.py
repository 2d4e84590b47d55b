"""What a training tells the world as it goes: console, metrics.jsonl and TensorBoard."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from cosmictagger.config.sections import RunConfig
from cosmictagger.data.events import Event
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.metrics_log import MetricsLog
from cosmictagger.reporting.tensorboard import TensorBoard


class Recorder:
    """Records steps and validations; only the root makes one. `first` is the step that the run goes on from."""

    def __init__(self, console: Console, log_directory: Path, config: RunConfig, first: int) -> None:
        resume_step = first or None
        self._console, self._config = console, config
        self._metrics = MetricsLog(log_directory, resume_step=resume_step)
        self._board = TensorBoard(log_directory, resume_step=resume_step)
        console.begin_steps(first, config.iterations)

    def step(self, step: int, values: Mapping[str, float], images_per_second: float | None) -> None:
        """Record a training step where a line or a summary is due."""
        if due(step, self._config.logging_iteration, self._config.iterations):
            self._console.step_line(step, values, images_per_second)
            self._metrics.write(step, "train", {**values, "images_per_second": images_per_second})
        if due(step, self._config.summary_iteration, self._config.iterations):
            self._board.scalars(step, "train", {**values, "images_per_second": images_per_second})

    def validation(self, step: int, values: Mapping[str, float]) -> None:
        """Record a validation."""
        words = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        self._console.info(f"step {step}: validation  {words}")
        self._metrics.write(step, "validation", values)
        self._board.scalars(step, "validation", values)

    def picture(self, step: int, event: Event, predictions: Sequence[npt.NDArray[np.uint8]]) -> None:
        """Record an event with its truth and prediction as a picture."""
        self._board.images(step, "train", event, predictions)

    def close(self) -> None:
        """Write out what is pending."""
        self._console.end_steps()
        self._metrics.close()
        self._board.close()


def due(step: int, every: int, last: int) -> bool:
    """Say whether something that happens every so many steps happens after `step`; after the last it always does."""
    return every > 0 and (step % every == 0 or step == last)
