"""Clocks of a run: where the time of each step goes, and the throughput that follows from it.

What is timed, exactly:

* A *step* lasts from the end of the step before it (the first one: from `Clocks.start`) to its own end, read
  after the device has been synchronized. Nothing falls between two steps.
* Validation and checkpoints are no step time: they pause the step's wall clock and are measured apart.
* The first `warmup_steps` steps are left out of every figure but the count of warm-up steps.
* Throughput is the images of the timed steps over the wall time of the timed steps.
"""

import contextlib
import dataclasses
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from cosmictagger.errors import UserError

STEP_CLOCKS = ("io_wait", "unpack", "forward", "backward", "communication", "optimizer", "logging")
MATRIX_COLUMNS = (*STEP_CLOCKS, "step")
APART_CLOCKS = ("validation", "checkpoint")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClockSummary:
    """One clock over all its records: seconds a record, and their sum; no records make everything but 0 None.

    `rank_minimum` and `rank_mean` are means of a record too: on the rank where it is smallest, and over all ranks.
    """

    count: int
    mean: float | None
    median: float | None
    p95: float | None
    total: float
    rank_minimum: float | None
    rank_mean: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Throughput:
    """Images a second over the timed steps; `seconds` is their wall time, warm-up and pauses left out.

    `slowest_over_mean` compares the slowest rank's own images/s, waits left out, with the mean of all ranks;
    None for one rank. The rates are None where no step was timed.
    """

    images_per_second: float | None
    images_per_second_per_rank: float | None
    slowest_over_mean: float | None
    steps: int
    warmup_steps: int
    images: int
    seconds: float


class Clocks:
    """Stopwatches for one rank, one record a step; not to be shared between threads.

    `synchronize` waits for the device (nothing to do on a CPU) and is called at both ends of every
    measurement; `now` reads a monotonic clock in seconds. A million steps take 72 MB.
    """

    def __init__(
        self, synchronize: Callable[[], None], *, warmup_steps: int = 0, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.warmup_steps = warmup_steps
        self._synchronize = synchronize
        self._now = now
        self._records = array("d")  # row after row of MATRIX_COLUMNS, warm-up rows left out
        self._images = array("q")
        self._apart = {name: array("d") for name in APART_CLOCKS}
        self._steps = 0
        self._last: dict[str, float] = {}
        self._current = dict.fromkeys(STEP_CLOCKS, 0.0)
        self._paused = 0.0
        self._inner: list[float] = []  # for each open measurement, the time of the measurements inside it
        self._inside_apart = False
        self._step_began: float | None = None

    def start(self) -> None:
        """Begin the first step; what was measured before belongs to no step."""
        self._synchronize()
        self._begin_step(self._now())

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Time a block under one of STEP_CLOCKS or APART_CLOCKS; one clock may run several times in a step.

        Times are exclusive: a measurement inside another one is not counted in the outer one too. All time
        inside an APART_CLOCKS block belongs to that clock alone. Raises ValueError for an unknown name.
        """
        if name not in self._current and name not in self._apart:
            raise ValueError(f"unknown clock '{name}'; clocks: {', '.join((*STEP_CLOCKS, *APART_CLOCKS))}")
        if self._inside_apart:
            yield
            return
        self._synchronize()
        began = self._now()
        self._inner.append(0.0)
        self._inside_apart = name in self._apart
        try:
            yield
        finally:
            self._synchronize()
            self._stop(name, self._now() - began)

    def end_step(self, images: int) -> None:
        """Close the record of a step of `images` images (over all ranks together) and begin the next step.

        Raises RuntimeError before `start`.
        """
        if self._step_began is None:
            raise RuntimeError("Clocks.end_step was called before Clocks.start")
        self._synchronize()
        now = self._now()
        self._steps += 1
        self._last = self._current | {"step": now - self._step_began - self._paused}
        if self._steps > self.warmup_steps:
            self._records.extend(self._last.values())
            self._images.append(images)
        self._begin_step(now)

    @property
    def last_step(self) -> dict[str, float]:
        """Seconds of each of MATRIX_COLUMNS in the latest step, warm-up or not; empty while there is none."""
        return dict(self._last)

    @property
    def images(self) -> int:
        """Images of the timed steps."""
        return sum(self._images)

    @property
    def timed_seconds(self) -> float:
        """Wall time of the timed steps on this rank, pauses left out; take the maximum over ranks."""
        return float(self.to_matrix()[:, -1].sum())

    @property
    def warmup_seen(self) -> int:
        """Warm-up steps that have run: `warmup_steps`, or fewer in a run that ended early."""
        return min(self._steps, self.warmup_steps)

    def to_matrix(self) -> npt.NDArray[np.float64]:
        """Return the timed steps, float64 [steps, len(MATRIX_COLUMNS)] in seconds.

        Ranks run the same steps, so the matrices of all ranks can be reduced element by element (maximum).
        """
        return np.array(self._records, dtype=np.float64).reshape(-1, len(MATRIX_COLUMNS))

    def summary(
        self, matrix: npt.NDArray[np.float64] | None = None, *, rank_totals: Sequence[npt.NDArray[np.float64]] = ()
    ) -> dict[str, ClockSummary]:
        """Summarize every clock; `matrix` stands in for `to_matrix`, after its reduction over ranks (maximum).

        `rank_totals` are the sums of `to_matrix` over its steps: their minimum and their mean over ranks.
        """
        rows = self.to_matrix() if matrix is None else matrix
        spread = np.array(rank_totals).T if len(rank_totals) else [()] * len(MATRIX_COLUMNS)
        columns = {name: summarize(rows[:, i], spread[i]) for i, name in enumerate(MATRIX_COLUMNS)}
        return columns | {name: summarize(np.array(seconds)) for name, seconds in self._apart.items()}

    def throughput(
        self,
        *,
        ranks: int = 1,
        seconds: float | None = None,
        images: int | None = None,
        rank_rates: Sequence[float] | None = None,
    ) -> Throughput:
        """Work out the throughput of all ranks together.

        `seconds` is `timed_seconds` reduced over ranks (maximum), `images` those of all ranks where
        `end_step` was given a rank's own, `rank_rates` the images/s of each rank where ranks run freely.
        """
        seconds = self.timed_seconds if seconds is None else seconds
        images = self.images if images is None else images
        rate = images / seconds if seconds > 0 else None
        return Throughput(
            images_per_second=rate,
            images_per_second_per_rank=None if rate is None else rate / ranks,
            slowest_over_mean=slowest_over_mean(rank_rates) if rank_rates is not None else None,
            steps=len(self._images),
            warmup_steps=self.warmup_seen,
            images=images,
            seconds=seconds,
        )

    def _begin_step(self, now: float) -> None:
        self._step_began = now
        self._paused = 0.0
        self._current = dict.fromkeys(STEP_CLOCKS, 0.0)

    def _stop(self, name: str, elapsed: float) -> None:
        own = elapsed - self._inner.pop()
        if self._inner:
            self._inner[-1] += elapsed
        if name in self._apart:
            self._inside_apart = False
            self._apart[name].append(elapsed)
            self._paused += elapsed
        else:
            self._current[name] += own


def summarize(seconds: npt.NDArray[np.float64], rank_totals: Sequence[float] = ()) -> ClockSummary:
    """Summarize the records of one clock, float64 [records]; `rank_totals` as minimum and mean over ranks."""
    if not len(seconds):
        return ClockSummary(count=0, mean=None, median=None, p95=None, total=0.0, rank_minimum=None, rank_mean=None)
    mean = float(seconds.mean())
    least, average = (float(total) / len(seconds) for total in rank_totals) if len(rank_totals) else (mean, mean)
    return ClockSummary(
        count=len(seconds),
        mean=mean,
        median=float(np.median(seconds)),
        p95=float(np.percentile(seconds, 95)),
        total=float(seconds.sum()),
        rank_minimum=least,
        rank_mean=average,
    )


def wait_fraction(timing: Mapping[str, ClockSummary]) -> float | None:
    """Return the share of step time spent waiting for data, 0 to 1; None where no step was timed."""
    total = timing["step"].total
    return timing["io_wait"].total / total if total > 0 else None


def slowest_over_mean(rates: Sequence[float]) -> float | None:
    """Return the smallest rate over the mean rate, the cap that the slowest rank sets on scaling; None for none."""
    mean = sum(rates) / len(rates) if rates else 0.0
    return min(rates) / mean if mean > 0 else None


def require_timed_steps(steps: int, warmup_steps: int) -> None:
    """Raise UserError where a run of `steps` steps would be warm-up alone and have nothing to report."""
    if steps <= warmup_steps:
        raise UserError(
            f"--warmup-steps: all of the {steps} steps of this run would be warm-up (of {warmup_steps} steps) and "
            "none timed; lower --warmup-steps or raise --iterations."
        )
