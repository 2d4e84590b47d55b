"""From settings to a reader of events, and the layout of the images that it gives."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from cosmictagger.config.sections import DataConfig
from cosmictagger.data.events import EventReader, Product
from cosmictagger.data.hdf5_reader import Hdf5Reader
from cosmictagger.data.larcv_reader import LarcvReader
from cosmictagger.errors import UserError

NO_PRODUCER = "none"
DEFAULT_DOWNSAMPLE = 1
FULL_RESOLUTION_VOXELS, DOWNSAMPLED_VOXELS = 80000, 35000
READERS: Mapping[str, Callable[..., EventReader]] = {"h5py": Hdf5Reader, "larcv": LarcvReader}

Source = Callable[[int], EventReader]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageLayout:
    """The images of a run: planes, (ticks, wires) of each after `downsample` halvings, pixel slots a plane."""

    planes: int
    shape: tuple[int, int]
    downsample: int
    max_voxels: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A reader of events, the layout of its images, and whether they have labels."""

    reader: EventReader
    layout: ImageLayout
    labelled: bool


def open_dataset(config: DataConfig, files: Sequence[str]) -> Dataset:
    """Open larcv3 files as `config` asks for; raise UserError where they do not fit it."""
    if not files:
        raise UserError(
            "--file: no input; name one or several larcv3 files, such as --file events.h5 or --file 'run*.h5'."
        )
    return open_source(config, functools.partial(_open, config, files), f"'{files[0]}'")


def open_source(config: DataConfig, source: Source, name: str) -> Dataset:
    """Make a data set of the reader that `source` gives for a number of halvings; `name` stands for it in errors."""
    downsample = config.downsample
    if downsample is None:
        downsample = DEFAULT_DOWNSAMPLE if config.shape is None else _halvings(source, config.shape, name)
    reader = source(downsample)
    if config.shape not in (None, reader.shape):
        reader.close()
        raise UserError(_wrong_shape(config.shape, reader.shape, name, downsample))
    labelled = config.label_producer != NO_PRODUCER
    return Dataset(reader=reader, layout=_layout(config, reader.shape, downsample), labelled=labelled)


def without_missing_labels(config: DataConfig, files: Sequence[str]) -> DataConfig:
    """Return the settings with ``label_producer`` none where the files have no such labels."""
    unlabelled = dataclasses.replace(config, label_producer=NO_PRODUCER)
    reader = _open(unlabelled, files, 0)
    labelled = Product("sparse2d", config.label_producer) in reader.products()
    reader.close()
    return config if labelled else unlabelled


def _open(config: DataConfig, files: Sequence[str], downsample: int) -> EventReader:
    return READERS[config.reader](
        files,
        image_producer=config.image_producer,
        label_producer=config.label_producer,
        particle_producer=config.particle_producer,
        nplanes=config.nplanes,
        downsample=downsample,
    )


def _halvings(source: Source, wanted: tuple[int, int], name: str) -> int:
    """Find how often the images must be halved to get the shape `wanted`."""
    reader = source(0)
    full = reader.shape
    reader.close()
    for halvings in range(9):
        if (wanted[0] << halvings, wanted[1] << halvings) == full:
            return halvings
    raise UserError(_wrong_shape(wanted, full, name, 0))


def _layout(config: DataConfig, shape: tuple[int, int], downsample: int) -> ImageLayout:
    max_voxels = config.max_voxels or (DOWNSAMPLED_VOXELS if downsample else FULL_RESOLUTION_VOXELS)
    # More slots than pixels would only be memory and traffic.
    max_voxels = min(max_voxels, shape[0] * shape[1])
    return ImageLayout(planes=config.nplanes, shape=shape, downsample=downsample, max_voxels=max_voxels)


def _wrong_shape(wanted: tuple[int, int] | None, found: tuple[int, int], name: str, downsample: int) -> str:
    asked = " ".join(map(str, wanted or ()))
    return (
        f"--shape: {asked} was asked for, but {name} gives {found[0]} {found[1]} (ticks, wires) "
        f"at --downsample {downsample}; drop --shape to take what the file gives."
    )
