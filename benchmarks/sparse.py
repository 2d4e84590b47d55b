"""Sparse against dense, on real events: training steps and inference, then single convolutions, in one run.

    python benchmarks/sparse.py [--file FILE] [--device cpu|cuda] [--batch N ...] [--rounds R] [--only WORD ...]

`plain dense` is the peer: the same network as the field's PyTorch code computes it (see plain_dense.py). A training
step is unpacking, forward, loss, backward and optimizer; reading is left out. Every measurement is a process of its
own, the rows take turns over the rounds, and figures are medians with the smallest and the largest in brackets.
Peak memory is that of the whole process on a CPU, and that of the tensors on a GPU.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from plain_dense import plain_network

from cosmictagger.config.presets import PRESETS
from cosmictagger.config.sections import Config, DataConfig, NetworkConfig, RunConfig, TrainingConfig
from cosmictagger.data.batch import allocate, image_dtype, pack
from cosmictagger.data.open import open_dataset
from cosmictagger.distributed.placement import Placement
from cosmictagger.models import build_network
from cosmictagger.models.sparse.engines import choose_engine
from cosmictagger.models.sparse.sites import build_sites
from cosmictagger.modes.build import make_unpacker
from cosmictagger.modes.resources import Resources, acquire
from cosmictagger.training.optimizers import build_optimizer
from cosmictagger.training.precision import resolve_precision

SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "data" / "sbnd_sample.h5"
MINIMUM = 3  # repeats of each measurement, however long they take
LIGHT = {"bottleneck_size": 64, "filter_size_deepest": 3}
SUPPRESSION = 4.0
CHANNELS = (16, 32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a network, what computes it, and in what precision."""

    title: str
    engine: str | None = None  # None: dense
    plain: bool = False
    precision: str = "float32"
    network: dict[str, Any] = dataclasses.field(default_factory=dict)
    downsample: int = 1
    zero_suppression: float = 0.0
    device: str = "cpu"
    batch: int = 1


def rows_of(device: str, batches: Sequence[int]) -> list[Row]:
    """List the rows for a device."""
    engines = ("torch", "cpu", "spconv") if device == "cpu" else ("torch", "spconv")
    fastest = "cpu" if device == "cpu" else "spconv"
    rows = []
    for batch in batches:
        dense = [
            Row(title="plain dense", plain=True),
            Row(title="dense"),
            Row(title="dense, mixed", precision="mixed"),
        ]
        sparse = [Row(title=f"sparse {engine}", engine=engine) for engine in engines]
        more = [
            Row(title=f"sparse {fastest}, mixed", engine=fastest, precision="mixed"),
            Row(title=f"sparse {fastest}, light", engine=fastest, network=LIGHT),
            Row(title=f"sparse {fastest}, light, mixed", engine=fastest, network=LIGHT, precision="mixed"),
            # Less work than in the rows above: what it costs in quality is in docs/quality.md.
            Row(
                title=f"sparse {fastest}, mixed, suppressed",
                engine=fastest,
                precision="mixed",
                zero_suppression=SUPPRESSION,
            ),
            Row(
                title=f"sparse {fastest}, light, mixed, suppressed",
                engine=fastest,
                network=LIGHT,
                precision="mixed",
                zero_suppression=SUPPRESSION,
            ),
            Row(title=f"sparse {fastest}, full resolution", engine=fastest, downsample=0),
            Row(title=f"sparse {fastest}, full, mixed", engine=fastest, downsample=0, precision="mixed"),
        ]
        rows += [dataclasses.replace(row, device=device, batch=batch) for row in (*dense, *sparse, *more)]
    return rows


def median_time(body: Callable[[], object], synchronize: Callable[[], None], seconds: float) -> float:
    """Repeat a call for some seconds and return its median time in seconds, the first call left out."""
    body()
    synchronize()
    times: list[float] = []
    while len(times) < MINIMUM or sum(times) < seconds:
        start = time.perf_counter()
        body()
        synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure_network(row: Row, file: Path, seconds: float) -> dict[str, float]:
    """Time training steps and inference of a row; images a second, and bytes of memory at the peak."""
    data = DataConfig(file=(str(file),), downsample=row.downsample)
    network = NetworkConfig(
        **PRESETS["a21"] | {"network_depth": 5} | row.network, preset="a21", sparse=row.engine is not None
    )
    training = TrainingConfig(precision=row.precision, zero_suppression=row.zero_suppression)
    config = Config(run=RunConfig(), data=data, network=network, training=training)
    dataset = open_dataset(data, data.file)
    records = allocate(row.batch, image_dtype(dataset.layout.planes, dataset.layout.max_voxels))
    for number in range(row.batch):
        pack(dataset.reader.read(number % len(dataset.reader)), records[number], "error")
    device = torch.device(row.device)
    resources = _resources(row)
    precision = resolve_precision(training, device)
    engine = choose_engine(row.engine, device) if row.engine else None  # type: ignore[arg-type]
    layout = dataset.layout
    made = (
        plain_network(network, layout.planes)
        if row.plain
        else build_network(network, layout.planes, layout.shape, engine=engine)
    )
    model = precision.prepare(made).to(device)
    optimizer = build_optimizer(model, training)
    unpack = make_unpacker(config, layout, resources, precision, engine)

    def step(batch: Any = None) -> None:
        optimizer.zero_grad(set_to_none=True)
        batch = batch or unpack(records)
        with precision.autocast():
            logits = model(batch.inputs)
        batch.loss(logits, "light").backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), precision.autocast():
            batch = unpack(records)
            batch.confusion(model(batch.inputs))

    train = row.batch / median_time(step, resources.synchronize, seconds)
    prepared = unpack(records)
    compute = row.batch / median_time(lambda: step(prepared), resources.synchronize, seconds)
    peak = resources.peak_device_bytes() or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    model.eval()
    return {
        "train": train,
        "compute": compute,
        "inference": row.batch / median_time(infer, resources.synchronize, seconds),
        "memory": float(peak),
    }


def _resources(row: Row) -> Resources:
    """Take threads and memory as the program does, or for the peer as PyTorch does by itself."""
    threads = torch.get_num_threads()
    if row.plain:
        return Resources(device=torch.device(row.device), device_name=row.device, threads=threads, cores=threads)
    mode: Literal["CPU", "GPU"] = "CPU" if row.device == "cpu" else "GPU"
    return acquire(RunConfig(compute_mode=mode), Placement(cores=threads))


def measure_convolution(
    engine_name: str, channels: int, device_name: str, file: Path, seconds: float
) -> dict[str, float]:
    """Time a 3×3 convolution on the active sites of a full-resolution event, in milliseconds."""
    data = DataConfig(file=(str(file),), downsample=0)
    dataset = open_dataset(data, data.file)
    records = allocate(1, image_dtype(dataset.layout.planes, dataset.layout.max_voxels))
    pack(dataset.reader.read(0), records[0], "error")
    tables = build_sites(records["index"], records["count"], dataset.layout.shape, (frozenset({3}),))
    device = torch.device(device_name)
    engine = choose_engine(engine_name, device)  # type: ignore[arg-type]
    sites = engine.prepare(tables, device)
    torch.manual_seed(0)
    values = torch.randn(len(tables.levels[0]), channels, device=device, requires_grad=True)
    weight = torch.randn(channels, channels, 3, 3, device=device, requires_grad=True)
    result = engine.convolve(values, weight, None, sites, 0)
    slope = torch.randn_like(result)

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            engine.convolve(values, weight, None, sites, 0)

    return {
        "sites": float(len(values)),
        "forward": 1e3 * median_time(forward, synchronize, seconds),
        "backward": 1e3
        * median_time(
            lambda: torch.autograd.grad(result, (values, weight), slope, retain_graph=True), synchronize, seconds
        ),
    }


def apart(task: dict[str, Any]) -> dict[str, float] | None:
    """Run a measurement in a process of its own; None, with the reason said, where it fails."""
    command = [sys.executable, __file__, "--task", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(f"{task}: {done.stderr.strip().splitlines()[-1]}\n")
        return None
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_task(task: dict[str, Any]) -> dict[str, float]:
    """Do what `apart` was asked for."""
    file, seconds = Path(task["file"]), task["seconds"]
    if "row" in task:
        return measure_network(Row(**task["row"]), file, seconds)
    return measure_convolution(task["engine"], task["channels"], task["device"], file, seconds)


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Write a median with its range."""
    return f"{statistics.median(values):.{digits}f} [{min(values):.{digits}f}–{max(values):.{digits}f}]"


def network_table(rows: Sequence[Row], rounds: int, common: dict[str, Any]) -> None:
    """Measure all rows in turn, round after round, and print their table."""
    found: dict[int, list[dict[str, float]]] = {number: [] for number in range(len(rows))}
    for _ in range(rounds):
        for number, row in enumerate(rows):
            result = apart({"row": dataclasses.asdict(row), **common})
            if result is not None:
                found[number].append(result)
    sys.stdout.write(
        f"\n{'a21, depth 5':38} {'batch':>5} {'train images/s':>24} {'x plain':>20} {'without unpacking':>24} "
        f"{'inference images/s':>24} {'x plain':>20} {'peak MB':>8}\n"
    )
    for number, row in enumerate(rows):
        peers = [i for i, other in enumerate(rows) if other.plain and other.batch == row.batch]
        sys.stdout.write(_line(row, found[number], found[peers[0]] if peers else []))


def _line(row: Row, results: Sequence[dict[str, float]], peer: Sequence[dict[str, float]]) -> str:
    if not results:
        return f"{row.title:38} {row.batch:5} did not run\n"
    columns = [f"{row.title:38} {row.batch:5}"]
    for key in ("train", "compute", "inference"):
        columns.append(f"{spread([result[key] for result in results]):>24}")
        if key != "compute":
            ratios = [one[key] / other[key] for one, other in zip(results, peer, strict=False)]
            columns.append(f"{spread(ratios, 1) if ratios else '':>20}")
    columns.append(f"{max(result['memory'] for result in results) / 1e6:8.0f}")
    return " ".join(columns) + "\n"


def convolution_table(device: str, rounds: int, common: dict[str, Any]) -> None:
    """Measure a convolution of each engine in turn and print the table."""
    engines = ("torch", "cpu", "spconv") if device == "cpu" else ("torch", "spconv")
    sys.stdout.write(
        f"\n{'3×3 convolution, full resolution':34} {'channels':>8} {'forward ms':>24} {'backward ms':>24} {'spconv / this':>24}\n"
    )
    for channels in CHANNELS:
        found: dict[str, list[dict[str, float]]] = {engine: [] for engine in engines}
        for _ in range(rounds):
            for engine in engines:
                result = apart({"engine": engine, "channels": channels, "device": device, **common})
                if result is not None:
                    found[engine].append(result)
        for engine, results in found.items():
            if results:
                total = [result["forward"] + result["backward"] for result in results]
                peer = [result["forward"] + result["backward"] for result in found["spconv"]]
                ratios = spread([other / one for one, other in zip(total, peer, strict=False)], 1) if peer else ""
                forward, backward = (spread([result[key] for result in results]) for key in ("forward", "backward"))
                sys.stdout.write(f"{engine:34} {channels:8} {forward:>24} {backward:>24} {ratios:>24}\n")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, default=SAMPLE)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="time for each measurement")
    parser.add_argument("--only", nargs="+", default=[], help="rows whose title holds one of these words; convolution")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task:
        sys.stdout.write(json.dumps(run_task(json.loads(options.task))) + "\n")
        return
    device = torch.cuda.get_device_name() if options.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    load = os.getloadavg()[0]
    sys.stdout.write(f"torch {torch.__version__}, numpy {np.__version__}, {device}, load before {load:.1f}\n")
    rows = rows_of(options.device, options.batch)
    wanted = [row for row in rows if not options.only or any(word in row.title for word in options.only)]
    common = {"file": str(options.file), "seconds": options.seconds}
    if not options.only or "convolution" in options.only:
        convolution_table(options.device, options.rounds, common)
    network_table(wanted, options.rounds, common)


if __name__ == "__main__":
    main()
