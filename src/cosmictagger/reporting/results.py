"""results.json: what a run found, for people and for other programs; docs/results.md explains every field."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from cosmictagger.config.resolve import to_dict
from cosmictagger.config.sections import Config
from cosmictagger.errors import UserError
from cosmictagger.metrics.interactions import InteractionGroup
from cosmictagger.reporting.clocks import ClockSummary, Throughput
from cosmictagger.reporting.files import plain, to_json, write_atomically
from cosmictagger.reporting.system import Provenance, System

SCHEMA_VERSION = 1

Values = Mapping[str, float | None]
Status = Literal["completed", "interrupted", "failed"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The network: `engine` computes the convolutions, `parameters` counts trainable numbers."""

    preset: str | None
    kind: Literal["dense", "sparse"]
    engine: str
    parameters: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class InputOutput:
    """Reading over all ranks: compressed bytes, images/s, the share (0 to 1) of step time spent waiting for data.

    `scatter_seconds` is the wait for batches sent by an I/O root, of the rank that waited longest.
    """

    bytes_read: int
    images_per_second: float | None
    wait_fraction: float | None
    truncated_pixels: int = 0
    unmatched_labels: int = 0
    scatter_seconds: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricTable:
    """Metrics by name: averaged over the planes, and for each of them."""

    average: Values
    planes: tuple[Values, ...]

    @classmethod
    def from_means(cls, means: Mapping[str, Any]) -> "MetricTable":
        """Sort numbers by name, and under ``plane0`` … for each plane, into a table."""
        planes = sorted((name for name in means if name.startswith("plane")), key=lambda name: int(name[5:]))
        average = {name: value for name, value in means.items() if not isinstance(value, Mapping) and name != "images"}
        return cls(average=average, planes=tuple(means[name] for name in planes))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MetricGroup:
    """Metrics over `images` images at `step`: means of per-image values, and values of all their pixels pooled."""

    step: int | None
    images: int
    loss: float | None
    mean: MetricTable
    pooled: MetricTable | None = None

    @classmethod
    def from_means(
        cls, means: Mapping[str, Any], *, step: int | None = None, loss: float | None = None
    ) -> "MetricGroup":
        """Take what `metrics.sums.MetricSums.means` returns."""
        pooled = MetricTable.from_means(means["pooled"])
        return cls(step=step, images=means["images"], loss=loss, mean=MetricTable.from_means(means), pooled=pooled)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Metrics:
    """Metrics on the images trained on (the last steps), on other ones, and on these apart by what happened in them."""

    train: MetricGroup | None = None
    validation: MetricGroup | None = None
    interactions: tuple[InteractionGroup, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Memory:
    """The most memory held by any rank, in bytes; `device_bytes` is None without an accelerator."""

    peak_resident_bytes: int
    device_bytes: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The checkpoint written last (train) or read (inference)."""

    path: str
    step: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """Time to quality: whether `metric` reached `value`, and if so after which step and how many seconds of the run.

    `best` is the highest value seen; None before the first validation.
    """

    metric: str
    value: float
    best: float | None
    reached: bool
    step: int | None
    seconds: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """One run. What a run has not (yet) got is None: a failed one may have neither network nor timing."""

    mode: Literal["train", "iotest", "inference"]
    status: Status
    reason: str | None = None
    config: Config
    model: Model | None = None
    ranks: int
    provenance: Provenance
    system: System
    throughput: Throughput | None = None
    timing: Mapping[str, ClockSummary] | None = None
    io: InputOutput | None = None
    metrics: Metrics = Metrics()
    memory: Memory | None = None
    checkpoint: Checkpoint | None = None
    target: Target | None = None

    def __post_init__(self) -> None:
        if (self.reason is None) != (self.status == "completed"):
            raise ValueError(f"status '{self.status}' with reason {self.reason!r}: all but 'completed' need one")

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain dictionaries and lists, fit for JSON."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["config"] = to_dict(self.config)
        return {"schema_version": SCHEMA_VERSION} | {key: plain(_undress(value)) for key, value in fields.items()}


def write_results(log_directory: Path, results: Results) -> Path:
    """Write results.<mode>.json and its copy results.json, each replaced as a whole; for rank 0 alone.

    Returns the path of results.json; raises UserError where it cannot be written.
    """
    latest = log_directory / "results.json"
    text = to_json(results.to_dict(), indent=2) + "\n"
    try:
        write_atomically(log_directory / f"results.{results.mode}.json", text)
        write_atomically(latest, text)
    except OSError as error:
        free = f" ({shutil.disk_usage(log_directory).free} bytes free)" if log_directory.is_dir() else ""
        raise UserError(f"--log-directory: cannot write '{latest}': {error.strerror}{free}.") from None
    return latest


def read_results(path: Path) -> dict[str, Any]:
    """Read a results.json; raise UserError where there is none or it is of another schema version."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read '{path}': {error.strerror}; name a log directory that a run has filled."
        ) from None
    except ValueError as error:
        raise UserError(f"'{path}' is not a results file: {error}.") from None
    version = document.get("schema_version") if isinstance(document, dict) else None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"'{path}' has schema version {version}, not {SCHEMA_VERSION}; run it again with this version of the program."
        )
    return dict(document)


def load_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of results.json, which is shipped with the package."""
    text = resources.files("cosmictagger.reporting").joinpath("results.schema.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _undress(value: Any) -> Any:
    """Turn dataclasses, and mappings of them, into dictionaries."""
    if isinstance(value, Mapping):
        return {key: _undress(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_undress(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    return value
