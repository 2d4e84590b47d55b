"""Simulate events of a liquid-argon detector and write them as a larcv3 file."""

import time
from pathlib import Path

from cosmictagger.config.sections import Config, SimulationConfig
from cosmictagger.errors import UserError
from cosmictagger.reporting.console import Console
from cosmictagger.reporting.system import usable_cores
from cosmictagger.simulate.detector import Detector
from cosmictagger.simulate.files import Simulation, simulate_file
from cosmictagger.simulate.neutrino import KINDS, Mix


def run(config: Config) -> int:
    """Write the file that `config` asks for and return the exit code."""
    wanted = config.simulation
    output = Path(wanted.output)
    if output.exists():
        raise UserError(f"--output: '{output}' exists; remove it or name another file.")
    simulation = make_simulation(config)
    workers = min(wanted.workers or usable_cores(), wanted.events)
    with Console(config.run.verbosity) as console:
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


def make_simulation(config: Config) -> Simulation:
    """Gather what determines the simulated events."""
    wanted: SimulationConfig = config.simulation
    detector = Detector.from_yaml(wanted.detector) if wanted.detector else Detector()
    return Simulation(
        detector=detector,
        mix=Mix(**dict(zip(KINDS, wanted.mix, strict=True))),
        seed=config.run.seed,
        truth3d=wanted.truth_3d,
    )
