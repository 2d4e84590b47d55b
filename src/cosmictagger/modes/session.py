"""The frame of every run: console, log directory, ranks, and a results.json however the run ends."""

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import numpy as np

from cosmictagger.config.sections import Config
from cosmictagger.data.loader import LoaderCounts
from cosmictagger.distributed.connect import Distribution
from cosmictagger.errors import Interrupted
from cosmictagger.modes.resources import Resources, acquire
from cosmictagger.modes.signals import StopRequest
from cosmictagger.reporting.clocks import ClockSummary, Throughput
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.log_directory import prepare_log_directory
from cosmictagger.reporting.results import (
    Checkpoint,
    InputOutput,
    Memory,
    Metrics,
    Model,
    Results,
    Status,
    Target,
    write_results,
)
from cosmictagger.reporting.system import gather_provenance, gather_system, peak_resident_bytes, utc_now
from cosmictagger.training.checkpoints import CheckpointStore

EXIT_OK, EXIT_SIGNAL = 0, 128


@dataclasses.dataclass
class Findings:
    """What a run has found out so far; goes into results.json."""

    model: Model | None = None
    throughput: Throughput | None = None
    timing: Mapping[str, ClockSummary] | None = None
    io: InputOutput | None = None
    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    checkpoint: Checkpoint | None = None
    target: Target | None = None


class Session:
    """Opens what every run needs and closes it in any case.

    On entry: device and threads, the log directory with the resolved configuration. On exit: results.json
    with status completed, interrupted or failed, and the report page.
    """

    def __init__(
        self, mode: Literal["train", "iotest", "inference"], config: Config, distribution: Distribution
    ) -> None:
        self.mode: Literal["train", "iotest", "inference"] = mode
        self.config, self.distribution = config, distribution
        self.findings = Findings()
        self.stop = StopRequest()
        self._start, self._began = utc_now(), time.perf_counter()

    def __enter__(self) -> Self:
        self.console = Console(self.config.run.verbosity, is_root=self.is_root)
        self.resources: Resources = acquire(self.config.run, self.distribution.placement)
        self.store = CheckpointStore(checkpoint_directory(self.config), self.config.run.keep_checkpoints)
        if self.is_root:
            self._prepare_directory()
        self.stop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.__exit__(kind, error, trace)
        try:
            memory = self._memory(everywhere=error is None)
            if self.is_root:
                self._write_results(*_status(self.stop, error), memory)
        finally:
            self.console.close()

    @property
    def is_root(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.distribution.is_root

    @property
    def log_directory(self) -> Path:
        """Where the results go."""
        return Path(self.config.run.log_directory)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return time.perf_counter() - self._began

    @property
    def stopping(self) -> bool:
        """Whether any rank was asked to stop; all ranks must ask at the same time, and then know of it alike."""
        return self.stop.agree(self.distribution.communicator.maximum)

    def stop_here(self) -> None:
        """End the run on all ranks, if `stopping`, where what is half done is of no use."""
        if self.stopping:
            raise Interrupted

    @property
    def exit_code(self) -> int:
        """0, or 128 + the number of the signal that ended the run."""
        return EXIT_OK if self.stop.signal is None else EXIT_SIGNAL + self.stop.signal

    def say_findings(self, counts: LoaderCounts) -> None:
        """Tell the figures of the run: what was odd in the data, metrics, and the throughput lines."""
        findings = self.findings
        if counts.empty_planes:
            self.console.warning(
                f"{counts.empty_planes} planes without pixels, {counts.empty_images} images without any, "
                f"first in entry {counts.first_empty}; they count as all background."
            )
        if counts.truncated_images:
            self.console.warning(
                f"{counts.truncated_images} images were truncated by {counts.truncated_pixels} pixels in all; "
                "raise --max-voxels to keep them whole."
            )
        for title, group in (("Training", findings.metrics.train), ("Validation", findings.metrics.validation)):
            if group is not None:
                self.console.metrics_table(
                    f"{title} metrics over {group.images} images", group.mean.average, group.mean.planes
                )
        if findings.metrics.interactions:
            self.console.interactions_table(findings.metrics.interactions)
        if findings.throughput is not None and findings.throughput.images_per_second is not None:
            self.console.figures_of_merit(findings.throughput.images_per_second, self.distribution.communicator.size)

    def _prepare_directory(self) -> None:
        has_checkpoint = self.store.latest() is not None
        directory = prepare_log_directory(self.config, self.mode, has_checkpoint=has_checkpoint)
        self.console.open_log(directory)
        self.console.configuration(self.config)
        self.console.info("\n".join((self.resources.description, *self.distribution.notes)))

    def _memory(self, *, everywhere: bool) -> Memory:
        """Find the most memory that this rank has held, or any rank where all are here to say so."""
        device = self.resources.peak_device_bytes()
        used = np.array([peak_resident_bytes(), device or 0], np.float64)
        if everywhere:
            used = self.distribution.communicator.maximum(used)
        return Memory(peak_resident_bytes=int(used[0]), device_bytes=None if device is None else int(used[1]))

    def _write_results(self, status: Status, reason: str | None, memory: Memory) -> None:
        communicator = self.distribution.communicator
        results = Results(
            mode=self.mode,
            status=status,
            reason=reason,
            config=self.config,
            ranks=communicator.size,
            provenance=gather_provenance(seed=self.config.run.seed, start=self._start),
            system=gather_system(
                threads=self.resources.threads,
                device=self.resources.device_name,
                ranks=communicator.size,
                hosts=self.distribution.hosts,
                mpi=communicator.library,
                gradients=self.distribution.gradients.name,
            ),
            memory=memory,
            **{field.name: getattr(self.findings, field.name) for field in dataclasses.fields(self.findings)},
        )
        path = write_results(self.log_directory, results)
        from cosmictagger.reporting.report import write_report  # matplotlib, which the other ranks never need

        report = write_report(self.log_directory)
        self.console.info(f"Results: {path}\nReport: {report}")


def checkpoint_directory(config: Config) -> Path:
    """Name the directory of the checkpoints."""
    chosen = config.run.checkpoint_directory
    return Path(chosen) if chosen is not None else Path(config.run.log_directory) / "checkpoints"


def _status(stop: StopRequest, error: BaseException | None) -> tuple[Status, str | None]:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", "interrupted at once"
    if error is not None:
        return "failed", f"{type(error).__name__}: {error}"
    if stop.signal is not None:
        return "interrupted", f"stopped by {stop.signal.name}"
    return "completed", None
