"""Put the parts of a run together: the one place where settings become objects."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Literal

from torch import nn

from cosmictagger.config.sections import Config, DataConfig, NetworkConfig
from cosmictagger.data.augment import Augmentation
from cosmictagger.data.events import EventReader
from cosmictagger.data.loader import Loader
from cosmictagger.data.open import Dataset, ImageLayout, open_dataset, open_source
from cosmictagger.data.sampler import Sampler, SerialSampler
from cosmictagger.distributed.communicator import Feed
from cosmictagger.distributed.connect import Distribution
from cosmictagger.errors import UserError
from cosmictagger.models.crossings import SBND_OFFSET, offset_of_pixels
from cosmictagger.models.sparse.engine import Engine
from cosmictagger.models.sparse.engines import choose_engine
from cosmictagger.models.sparse.sites import kernel_sizes, tick_levels
from cosmictagger.modes.resources import Resources
from cosmictagger.reporting.clocks import Clocks
from cosmictagger.reporting.results import Model
from cosmictagger.simulate.files import make_simulation
from cosmictagger.simulate.reader import SimulatedReader
from cosmictagger.training.batches import DenseUnpacker, SparseUnpacker, Unpack
from cosmictagger.training.evaluation import Evaluator
from cosmictagger.training.precision import Precision, bfloat16_time, resolve_precision
from cosmictagger.training.prefetch import best_unpacking
from cosmictagger.training.views import ViewAverage, further_views

SLOWER = 1.2  # times as long, from which on bfloat16 is spoken about


def open_input(config: Config) -> Dataset:
    """Open the files of --file, or simulate the images of --synthetic, all of them now and into memory."""
    if not config.data.synthetic:
        return open_dataset(config.data, config.data.file)
    dataset = open_source(config.data, functools.partial(_simulated, config), "the simulated detector")
    for entry in range(len(dataset.reader)):
        dataset.reader.read(entry)
    return dataset


def _simulated(config: Config, downsample: int) -> EventReader:
    simulation = make_simulation(config.simulation, config.run.seed)
    return SimulatedReader(
        config.simulation.synthetic_events,
        simulation.seed,
        downsample=downsample,
        detector=simulation.detector,
        mix=simulation.mix,
        first_event=config.simulation.first_event,
    )


def with_crossings(config: Config, downsample: int) -> Config:
    """Settle where wires cross in images that are halved so often, where a network has to know and was not told."""
    network = config.network
    if not network.crossing_levels or network.crossing_offset is not None:
        return config
    network = dataclasses.replace(network, crossing_offset=offset_of_pixels(SBND_OFFSET, downsample))
    return dataclasses.replace(config, network=network)


def make_augmentation(config: Config, layout: ImageLayout) -> Augmentation | None:
    """Make what changes the training images; None where they stay as they are."""
    changes = config.training.augment
    return Augmentation(changes, config.run.seed, layout.planes) if changes else None


def make_feed(
    distribution: Distribution,
    config: DataConfig,
    dataset: Dataset,
    sampler: Sampler,
    steps: range,
    augment: Augmentation | None = None,
) -> Feed:
    """Make the feed that every mode takes its batches from."""

    def make_loader(sampler: Sampler) -> Loader:
        return Loader(
            dataset.reader,
            sampler,
            steps,
            planes=dataset.layout.planes,
            max_voxels=dataset.layout.max_voxels,
            on_overflow=config.on_overflow,
            threads=config.io_threads,
            prefetch=config.prefetch,
            augment=augment,
        )

    return distribution.data.feed(dataset, sampler, steps, make_loader)


def make_serial_feed(
    distribution: Distribution, config: DataConfig, dataset: Dataset, images_per_step: int, images: int = 0
) -> Feed:
    """Make a feed that gives every entry once, in order, or the first `images` of them."""
    length = min(images, len(dataset.reader)) if images else len(dataset.reader)
    sampler = SerialSampler(length, images_per_step)
    return make_feed(distribution, config, dataset, sampler, range(len(sampler)))


def make_precision(config: Config, resources: Resources, say: Callable[[str], None]) -> Precision:
    """Settle the number formats, and say where bfloat16 was asked for and float32 is faster."""
    precision = resolve_precision(config.training, resources.device)
    times = bfloat16_time(precision)
    if times is not None and times > SLOWER:
        say(
            f"Products in bfloat16 take {times:.1f} times as long as in float32 on this processor: "
            "--precision float32 may be faster."
        )
    return precision


def make_engine(config: Config, resources: Resources, say: Callable[[str], None]) -> Engine | None:
    """Make what computes a sparse network; None for a dense one."""
    if not config.network.sparse:
        return None
    return choose_engine(config.run.sparse_engine, resources.device, say)


def make_unpacker(
    config: Config, layout: ImageLayout, resources: Resources, precision: Precision, engine: Engine | None
) -> Unpack:
    """Make what turns records into the network's input."""
    if engine is None:
        return DenseUnpacker(
            shape=layout.shape,
            device=resources.device,
            dtype=precision.input_dtype,
            model_dtype=precision.model_dtype,
            transform=config.training.input_transform,
            zero_suppression=config.training.zero_suppression,
        )
    return SparseUnpacker(
        shape=layout.shape,
        device=resources.device,
        dtype=precision.input_dtype,
        model_dtype=precision.model_dtype,
        transform=config.training.input_transform,
        engine=engine,
        sizes=kernel_sizes(config.network),
        ticks_at=tick_levels(config.network),
        zero_suppression=config.training.zero_suppression,
        # Where tables are made in a thread beside the computing, one core is theirs.
        threads=1 if resources.spare_core else resources.threads,
    )


def make_evaluator(
    config: Config,
    layout: ImageLayout,
    resources: Resources,
    precision: Precision,
    engine: Engine | None,
    network: nn.Module,
    clocks: Clocks,
) -> Evaluator:
    """Make what takes batches from a feed and applies the network to them, --views times."""
    unpack = make_unpacker(config, layout, resources, precision, engine)
    views = further_views(config.inference.views, config.inference.mirror_views)
    average = ViewAverage(
        network=network, unpack=unpack, precision=precision, clocks=clocks, shape=layout.shape, views=views
    )
    return Evaluator(
        network=network,
        unpack=unpack,
        unpacking=best_unpacking(resources.spare_core),
        precision=precision,
        clocks=clocks,
        look_again=average if views else None,
    )


def refuse_dense_views(config: Config) -> None:
    """Raise UserError where --views cannot be averaged."""
    if config.inference.views > 1 and not config.network.sparse:
        raise UserError("--views: averages over the active pixels of a sparse network; add --sparse.")


def describe_model(config: NetworkConfig, parameters: int, engine: Engine | None) -> Model:
    """Say what the network is."""
    kind: Literal["dense", "sparse"] = "dense" if engine is None else "sparse"
    name = "torch" if engine is None else engine.name
    return Model(preset=config.preset, kind=kind, engine=name, parameters=parameters)
