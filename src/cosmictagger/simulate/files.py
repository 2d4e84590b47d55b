"""Writes simulated events to larcv3 files, on as many processes as wished."""

import collections
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from cosmictagger.config.sections import SimulationConfig
from cosmictagger.data.events import Product
from cosmictagger.data.products import AnyProduct
from cosmictagger.data.writer import LarcvWriter
from cosmictagger.errors import UserError
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.event import simulate_event
from cosmictagger.simulate.neutrino import KINDS, Mix
from cosmictagger.simulate.products import event_id, event_products
from cosmictagger.simulate.response import Canvas

AHEAD = 4  # events in work or waiting, for each process: bounds the memory
Progress = Callable[[int], None]
Made = dict[Product, AnyProduct]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulation:
    """What determines every event of a data set."""

    detector: Detector = dataclasses.field(default_factory=Detector)
    mix: Mix = dataclasses.field(default_factory=Mix)
    seed: int = 0
    truth3d: bool = False


def make_simulation(config: SimulationConfig, seed: int) -> Simulation:
    """Gather what determines the events that `config` asks for; raises UserError for a bad detector or mix."""
    detector = Detector.from_yaml(config.detector) if config.detector else Detector()
    mix = Mix(**dict(zip(KINDS, config.mix, strict=True)), neutrinos=config.neutrinos)
    return Simulation(detector=detector, mix=mix, seed=seed, truth3d=config.truth_3d)


def simulate_file(
    path: str | Path,
    events: int,
    simulation: Simulation,
    *,
    workers: int = 1,
    first_event: int = 0,
    progress: Progress | None = None,
    compression: int = 1,
) -> None:
    """Write `events` events, numbered from `first_event`, to a larcv3 file.

    The file is the same whatever the number of `workers`. `progress` is called with the number of events
    written so far. Raises UserError where the file cannot be written or a worker process is killed.
    """
    if events < 1:
        raise UserError(f"--events: {events} events make no file; ask for at least 1.")
    numbers = range(first_event, first_event + events)
    with LarcvWriter(path, shape=simulation.detector.shape, compression=compression) as writer:
        made = simulate_products(simulation, numbers, workers)
        try:
            for done, (number, products) in enumerate(zip(numbers, made, strict=True), 1):
                writer.append(event_id(number), products)
                if progress is not None:
                    progress(done)
        finally:
            made.close()


def simulate_products(simulation: Simulation, numbers: range, workers: int) -> Generator[Made]:
    """Yield the products of the events `numbers`, in order; `workers` above 1 are separate processes."""
    if workers <= 1:
        canvas = Canvas(simulation.detector.shape)
        for number in numbers:
            yield _products(simulation, number, canvas)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(simulation,))
    try:
        yield from _in_order(pool, numbers, workers * AHEAD)
    except BrokenProcessPool:
        raise UserError(
            "simulate: a worker process ended abruptly, probably for want of memory; take fewer --workers."
        ) from None
    finally:
        _end(pool)


def _in_order(pool: ProcessPoolExecutor, numbers: range, ahead: int) -> Iterator[Made]:
    """Keep a bounded number of events in work and hand them out in order."""
    waiting: collections.deque[Future[Made]] = collections.deque()
    for number in numbers:
        waiting.append(pool.submit(_work, number))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _end(pool: ProcessPoolExecutor) -> None:
    """Drop what waits and end the workers: at once, as each is at most one event from its end."""
    pool.shutdown(wait=True, cancel_futures=True)


def _products(simulation: Simulation, number: int, canvas: Canvas) -> Made:
    event = simulate_event(simulation.detector, simulation.mix, simulation.seed, number, canvas)
    return event_products(simulation.detector, event, simulation.truth3d)


class _Worker:
    """What a worker process keeps from event to event."""

    simulation: Simulation
    canvas: Canvas


def _start_worker(simulation: Simulation) -> None:
    """Set up a worker: Ctrl-C is the parent's to handle, and without a parent there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    _Worker.simulation = simulation
    _Worker.canvas = Canvas(simulation.detector.shape)


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _work(number: int) -> Made:
    return _products(_Worker.simulation, number, _Worker.canvas)
