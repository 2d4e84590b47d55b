"""A small event and a small run that several tests of reporting use."""

from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest

from cosmictagger.config.sections import Config
from cosmictagger.data.events import Event, EventId, PlanePixels
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.reporting.results import (
    Checkpoint,
    InputOutput,
    Memory,
    MetricGroup,
    Metrics,
    MetricTable,
    Model,
    Results,
)
from cosmictagger.reporting.system import gather_provenance, gather_system


class FakeClock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time

    def pass_(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def event() -> Event:
    """Two planes of 8 ticks × 10 wires: noise, a cosmic and a neutrino pixel; the second plane is empty."""
    index = np.array([0, 12, 13, 79], dtype=np.int32)
    value = np.array([5.0, 40.0, 60.0, 30.0], dtype=np.float32)
    label = np.array([0, 1, 1, 2], dtype=np.uint8)
    empty = PlanePixels(index[:0], value[:0], label[:0])
    return Event(entry=7, event_id=EventId(1, 2, 3), shape=(8, 10), planes=(PlanePixels(index, value, label), empty))


def build_results(**changes: object) -> Results:
    """Results of a training of 3 steps of 4 images, 1 of them warm-up, on 2 ranks."""
    now = FakeClock()
    clocks = Clocks(lambda: None, warmup_steps=1, now=now)
    clocks.start()
    for _ in range(3):
        with clocks.measure("io_wait"):
            now.pass_(0.5)
        with clocks.measure("forward"):
            now.pass_(1.5)
        clocks.end_step(4)
    planes = ({"accuracy": 0.99, "cosmic_iou": 0.8}, {"accuracy": 0.97, "cosmic_iou": float("nan")})
    average = {"accuracy": np.float32(0.98), "cosmic_iou": 0.8}
    table = MetricTable(average=average, planes=planes)
    group = MetricGroup(step=3, images=12, loss=0.25, mean=table)
    fields = {
        "mode": "train",
        "status": "completed",
        "config": Config(),
        "model": Model(preset="a21", kind="sparse", engine="torch", parameters=8_510_547),
        "ranks": 2,
        "provenance": gather_provenance(seed=5, start=datetime(2025, 1, 31, 12, tzinfo=UTC), argv=["exec.py", "train"]),
        "system": gather_system(ranks=2, threads=1, device="cpu", hosts=["a", "a"], mpi="MPICH 5.0"),
        "throughput": clocks.throughput(ranks=2),
        "timing": clocks.summary(),
        "io": InputOutput(bytes_read=123, images_per_second=8.0, wait_fraction=0.25),
        "metrics": Metrics(train=group),
        "memory": Memory(peak_resident_bytes=2**30),
        "checkpoint": Checkpoint(path="log/checkpoints/step_3.pt", step=3),
    }
    return Results(**(fields | changes))


@pytest.fixture
def make_results() -> Callable[..., Results]:
    return build_results


@pytest.fixture
def results() -> Results:
    return build_results()
