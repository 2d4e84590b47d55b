"""Put the parts of a run together: the one place where settings become objects."""

from collections.abc import Mapping

from cosmictagger.config.sections import DataConfig, NetworkConfig, TrainingConfig
from cosmictagger.data.events import EventReader
from cosmictagger.data.loader import Loader, LoaderCounts
from cosmictagger.data.open import Dataset, ImageLayout
from cosmictagger.data.sampler import Sampler, SerialSampler
from cosmictagger.modes.resources import Resources
from cosmictagger.reporting.clocks import ClockSummary, Throughput, wait_fraction
from cosmictagger.reporting.results import InputOutput, Model
from cosmictagger.training.batches import DenseUnpacker, Unpack
from cosmictagger.training.precision import Precision


def make_loader(config: DataConfig, dataset: Dataset, sampler: Sampler, steps: range) -> Loader:
    """Make the loader that every mode reads with."""
    return Loader(
        dataset.reader,
        sampler,
        steps,
        planes=dataset.layout.planes,
        max_voxels=dataset.layout.max_voxels,
        on_overflow=config.on_overflow,
        threads=config.io_threads,
        prefetch=config.prefetch,
    )


def make_serial_loader(config: DataConfig, dataset: Dataset, images_per_step: int, images: int = 0) -> Loader:
    """Make a loader that gives every entry once, in order, or the first `images` of them."""
    length = min(images, len(dataset.reader)) if images else len(dataset.reader)
    sampler = SerialSampler(length, images_per_step)
    return make_loader(config, dataset, sampler, range(len(sampler)))


def make_unpacker(layout: ImageLayout, resources: Resources, precision: Precision, training: TrainingConfig) -> Unpack:
    """Make what turns records into the network's input."""
    return DenseUnpacker(
        shape=layout.shape,
        device=resources.device,
        dtype=precision.input_dtype,
        model_dtype=precision.model_dtype,
        transform=training.input_transform,
    )


def describe_model(config: NetworkConfig, parameters: int) -> Model:
    """Say what the network is."""
    return Model(
        preset=config.preset, kind="sparse" if config.sparse else "dense", engine="torch", parameters=parameters
    )


def reading(
    reader: EventReader, counts: LoaderCounts, timing: Mapping[str, ClockSummary], throughput: Throughput
) -> InputOutput:
    """Say what was read and how long the steps waited for it."""
    return InputOutput(
        bytes_read=reader.bytes_read,
        images_per_second=throughput.images_per_second,
        wait_fraction=wait_fraction(timing),
        truncated_pixels=counts.truncated_pixels,
        unmatched_labels=reader.unmatched_labels,
    )
