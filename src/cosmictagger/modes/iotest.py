"""Time reading alone, with the very loader that train uses."""

from collections.abc import Iterator

from cosmictagger.config.sections import Config
from cosmictagger.data.batch import Records
from cosmictagger.data.sampler import ShuffledSampler
from cosmictagger.distributed.connect import connect
from cosmictagger.modes.build import make_feed, open_input
from cosmictagger.modes.figures import gather_figures
from cosmictagger.modes.session import Session
from cosmictagger.reporting.clocks import Clocks, require_timed_steps

MEGABYTE = 1e6


def run(config: Config) -> int:
    """Read `iterations` batches as train would, and return the exit code."""
    require_timed_steps(config.run.iterations, config.run.warmup_steps)
    with connect(config) as distribution, Session("iotest", config, distribution) as session:
        distribution.data.share(config.data.minibatch_size)
        dataset = distribution.data.open(lambda: open_input(config))
        sampler = ShuffledSampler(len(dataset.reader), config.data.minibatch_size, config.run.seed)
        feed = make_feed(distribution, config.data, dataset, sampler, range(config.run.iterations))
        session.console.info(
            f"Data: {len(dataset.reader)} events; {feed.buffer_bytes / MEGABYTE:.1f} MB of buffers for batches"
        )
        clocks = Clocks(session.resources.synchronize, warmup_steps=config.run.warmup_steps)
        try:
            _read(session, clocks, iter(feed))
        finally:
            feed.close()
        counts = gather_figures(session, clocks, dataset, feed)
        _say(session, counts.images)
        session.say_findings(counts)
    return session.exit_code


def _read(session: Session, clocks: Clocks, feed: Iterator[tuple[int, Records]]) -> None:
    """Take all batches, touching nothing but their counts: what remains is the cost of getting them."""
    run, images = session.config.run, session.config.data.minibatch_size
    session.console.begin_steps(0, run.iterations)
    clocks.start()
    for step in range(1, run.iterations + 1):
        with clocks.measure("io_wait"):
            _, records = next(feed)
        pixels = int(records["count"].sum())
        clocks.end_step(images)
        if step % run.logging_iteration == 0:
            session.console.step_line(step, {"pixels_per_image": pixels / images}, images / clocks.last_step["step"])
        if session.stopping:
            break
    session.console.end_steps()


def _say(session: Session, images: int) -> None:
    throughput, timing, io = session.findings.throughput, session.findings.timing, session.findings.io
    if throughput is None or throughput.images_per_second is None or timing is None or io is None or not images:
        return
    bytes_per_image = io.bytes_read / images
    megabytes = bytes_per_image * throughput.images_per_second / MEGABYTE
    session.console.result(f"Read {megabytes:.2f} MB/s from the files ({bytes_per_image / 1e3:.0f} kB an image)")
    if io.scatter_seconds:
        steps = session.config.run.iterations
        session.console.result(
            f"Scatter: {1e3 * io.scatter_seconds / steps:.3f} ms a step, of the rank that waited longest"
        )
    session.console.result(f"Waited {timing['io_wait'].total:.3f} s in {throughput.steps} timed steps")
