"""Simulate events of a liquid-argon detector and write them as larcv3 files."""

import dataclasses
import time
from pathlib import Path

from cosmictagger.config.sections import Config, SimulationConfig
from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.system import usable_cores
from cosmictagger.simulate.files import make_simulation, simulate_file


def run(config: Config) -> int:
    """Write the events that `config` asks for and return the exit code.

    With --distributed every rank writes a file of its own, a share of the events that follow each other.
    """
    if not config.run.distributed:
        return _simulate(config, config.simulation, is_root=True)
    # Only here: it brings PyTorch and MPI along, which a simulation has no other use for.
    from cosmictagger.distributed.connect import connect

    with connect(config) as distribution:
        rank, ranks = distribution.communicator.rank, distribution.communicator.size
        return _simulate(config, share(config.simulation, rank, ranks), is_root=rank == 0)


def share(whole: SimulationConfig, rank: int, ranks: int) -> SimulationConfig:
    """Return the part of one rank: as equal as can be, in a file with the number of the rank in its name."""
    if ranks == 1:
        return whole
    if whole.events < ranks:
        raise UserError(f"--events: {whole.events} events cannot be shared by {ranks} ranks; ask for {ranks} or more.")
    first, last = (whole.events * number // ranks for number in (rank, rank + 1))
    output = Path(whole.output)
    return dataclasses.replace(
        whole,
        events=last - first,
        first_event=whole.first_event + first,
        output=str(output.with_name(f"{output.stem}-{rank:04d}{output.suffix}")),
        workers=whole.workers or 1,
    )


def _simulate(config: Config, wanted: SimulationConfig, is_root: bool) -> int:
    output = Path(wanted.output)
    if output.exists():
        raise UserError(f"--output: '{output}' exists; remove it or name another file.")
    simulation = make_simulation(wanted, config.run.seed)
    workers = min(wanted.workers or usable_cores(), wanted.events)
    with Console(config.run.verbosity, is_root=is_root) as console:
        console.info(
            f"Simulating {wanted.events} events, seed {config.run.seed}, on {workers} processes, into {output}"
        )
        begin = time.perf_counter()
        console.begin_steps(0, wanted.events)

        def progress(done: int) -> None:
            if done % config.run.logging_iteration == 0 or done == wanted.events:
                console.step_line(done, {}, done / (time.perf_counter() - begin))

        simulate_file(
            output, wanted.events, simulation, workers=workers, first_event=wanted.first_event, progress=progress
        )
        console.end_steps()
        seconds = time.perf_counter() - begin
        size = output.stat().st_size / 1e6
        console.result(
            f"Wrote {wanted.events} events, {size:.1f} MB, in {seconds:.1f} s ({wanted.events / seconds:.1f} images/s)"
        )
    return 0
