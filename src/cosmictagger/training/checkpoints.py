"""Checkpoints: what is saved, atomically, and the ways in which loading can fail, each said in one line."""

import dataclasses
import io
import os
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor, nn

from cosmictagger import __version__
from cosmictagger.config.sections import BEFORE, BEFORE_INPUTS, NetworkConfig
from cosmictagger.distributed.communicator import Communicator
from cosmictagger.errors import UserError

FORMAT = "cosmictagger-checkpoint"
FORMAT_VERSION = 1
NAME = re.compile(r"checkpoint-(\d{8,})\.pt")
TEMPORARY = ".tmp"
PRETRAINED = "pretrained"  # what --weights-location may say instead of a path

# Options that a checkpoint may differ in: a preset is a name for other options, and dense and sparse networks
# have the same parameters and compute the same function of the active pixels.
FREE_OPTIONS = frozenset({"preset", "sparse"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """Everything that a run needs in order to go on as if it had not stopped.

    Only plain values, containers and tensors: they are read back without running any code of the file.
    """

    step: int  # updates done; also the number of the next one
    model: dict[str, Any]  # state dicts
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    network: dict[str, Any]  # NetworkConfig, as a dict
    inputs: dict[str, Any]  # what the network was trained on: nplanes, downsample, input_transform, zero_suppression
    training: dict[str, Any]  # TrainingConfig, as a dict
    sampler: dict[str, Any]  # position in the data: step, seed, images_per_step
    random: dict[str, Any]  # `random_state` of the rank that saved it
    metrics: dict[str, Any]  # the last validation, where there was one
    version: str = __version__  # of this package


class CheckpointStore:
    """The checkpoints of one directory, which is made when missing. One process writes, any number reads."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory = directory
        self._keep = keep

    def steps(self) -> list[int]:
        """List the steps that have a checkpoint, ascending; files of other names do not count."""
        if not self.directory.is_dir():
            return []
        found = (NAME.fullmatch(path.name) for path in self.directory.iterdir() if path.is_file())
        return sorted(int(match[1]) for match in found if match)

    def path(self, step: int) -> Path:
        """Name the checkpoint of a step."""
        return self.directory / f"checkpoint-{step:08d}.pt"

    def latest(self) -> Path | None:
        """Return the checkpoint of the highest step, or None where there is none."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint; it appears under its name only when it is complete and on the disk.

        Of this and earlier steps the last `keep` stay, older ones are deleted. Raises UserError where the
        directory cannot be written.
        """
        path = self.path(checkpoint.step)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, path)
            self._delete_older(checkpoint.step)
        except OSError as error:
            raise UserError(
                f"checkpoint '{path}' cannot be written: {error.strerror}; free space or choose --checkpoint-directory."
            ) from None
        return path

    def _delete_older(self, step: int) -> None:
        earlier = [other for other in self.steps() if other <= step]
        for old in earlier[: -self._keep]:
            self.path(old).unlink(missing_ok=True)
        for left_behind in self.directory.glob(f"checkpoint-*.pt{TEMPORARY}"):
            left_behind.unlink(missing_ok=True)


def pretrained() -> Path:
    """Name the checkpoint that comes with the program; docs/quality.md says what it was trained on, and how good it is."""
    return Path(str(resources.files("cosmictagger.training").joinpath("pretrained.pt")))


def export(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint for inference alone: without what only the training that made it could go on with."""
    bare: dict[str, Any] = {}
    _write(dataclasses.replace(checkpoint, optimizer=bare, scaler=bare, random=bare), path)


def find(location: Path) -> Path:
    """Find the checkpoint that a user means: a file, or the latest one in a directory or its ``checkpoints/``.

    The word ``pretrained`` means the one that comes with the program. Raises UserError where there is none.
    """
    if str(location) == PRETRAINED and not location.exists():
        return pretrained()
    for directory in (location, location / "checkpoints"):
        latest = CheckpointStore(directory, keep=1).latest()
        if latest is not None:
            return latest
    if location.is_file():
        return location
    found = "holds no checkpoint" if location.is_dir() else "does not exist"
    raise UserError(
        f"--weights-location: '{location}' {found}; name a checkpoint, or the log directory of a training, or "
        f"{PRETRAINED}: the network that comes with the program."
    )


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU, or raise UserError: missing, no checkpoint, damaged, or of a newer format."""
    return parse(_read(path), path)


def load_on_all(communicator: Communicator, locate: Callable[[], Path | None]) -> tuple[Path, Checkpoint] | None:
    """Read the checkpoint that rank 0 locates, and send it to all ranks: the others need not see the file.

    Returns its path with it, or None where there is none. Raises as `load` does, on rank 0.
    """
    path = locate() if communicator.rank == 0 else None
    name = communicator.broadcast_bytes(str(path or "").encode() if communicator.rank == 0 else None).decode()
    if not name:
        return None
    content = communicator.broadcast_bytes(None if path is None else _read(path))
    return Path(name), parse(content, Path(name))


def parse(content: bytes, path: Path) -> Checkpoint:
    """Turn the content of the file `path` into a checkpoint; raises as `load` does."""
    document = _document(content, path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise UserError(f"checkpoint '{path}': this PyTorch file is not a checkpoint of this program.")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"checkpoint '{path}': its format is version {version}, this program reads version {FORMAT_VERSION}; "
            f"use cosmictagger {document.get('version', 'of the time')}."
        )
    names = {field.name for field in dataclasses.fields(Checkpoint)}
    missing = names - document.keys()
    if missing:
        raise UserError(f"checkpoint '{path}' is damaged: it lacks {', '.join(sorted(missing))}; take an earlier one.")
    document["network"] = BEFORE | document["network"]
    document["inputs"] = BEFORE_INPUTS | document["inputs"]
    return Checkpoint(**{name: document[name] for name in names})


def check_network(checkpoint: Checkpoint, network: NetworkConfig, inputs: Mapping[str, Any], path: Path) -> None:
    """Raise UserError naming every option of the network in which `checkpoint` differs from what is asked for.

    `inputs` holds those of the keys of `Checkpoint.inputs` that must agree.
    """
    defaults = dataclasses.asdict(NetworkConfig())
    asked = dataclasses.asdict(network) | dict(inputs)
    # An option that the checkpoint does not know is younger, and its default is what was done before (see `parse`).
    held = defaults | checkpoint.network | checkpoint.inputs
    differences = [
        f"--{key.replace('_', '-')}: checkpoint {_show(held[key])}, asked {_show(asked[key])}"
        for key in sorted(asked.keys() - FREE_OPTIONS)
        if key in held and _show(held[key]) != _show(asked[key])
    ]
    differences += [
        f"--{key.replace('_', '-')}: checkpoint {_show(checkpoint.network[key])}, not an option of this version"
        for key in sorted(checkpoint.network.keys() - defaults.keys())
    ]
    if differences:
        raise UserError(f"checkpoint '{path}' is of another network: {'; '.join(differences)}.")


def check_training(checkpoint: Checkpoint, sampler: Mapping[str, int], optimizer: str, path: Path) -> None:
    """Raise UserError where a training of such batches by that optimizer is not the one that `checkpoint` is of."""
    if checkpoint.sampler != sampler:
        held = checkpoint.sampler
        names = ", ".join(
            f"{key} {held.get(key)}, here {value}" for key, value in sampler.items() if held.get(key) != value
        )
        raise UserError(
            f"checkpoint '{path}' was trained on other batches ({names}); repeat those settings, or take --no-resume."
        )
    trained_by = checkpoint.training.get("optimizer", optimizer)
    if trained_by != optimizer:
        raise UserError(
            f"checkpoint '{path}' was trained by --optimizer {trained_by}; repeat that, or take --no-resume."
        )


def load_parameters(module: nn.Module, checkpoint: Checkpoint, path: Path) -> None:
    """Copy parameters and statistics into `module`, converted to its number formats.

    Raises UserError naming the first that is missing, unknown or of another shape. After `check_network` none is,
    unless the file was made by other means.
    """
    own = module.state_dict()
    for name in sorted(own.keys() | checkpoint.model.keys()):
        shapes = [_shape(state.get(name)) for state in (checkpoint.model, own)]
        if shapes[0] != shapes[1]:
            raise UserError(
                f"checkpoint '{path}' does not fit the network: '{name}' is {shapes[0]} there, {shapes[1]} here; "
                "give the network options that it was trained with."
            )
    module.load_state_dict(checkpoint.model)


def random_state() -> dict[str, Any]:
    """Take the state of this process's random numbers: PyTorch (CPU, current GPU) and numpy."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    numpy_state = [name, torch.from_numpy(np.asarray(keys, np.int64)), int(position), int(has_gauss), float(gauss)]
    gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return {"torch": torch.get_rng_state(), "gpu": gpu, "numpy": numpy_state}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Put this process's random numbers where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["gpu"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["gpu"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, gauss))


def _write(checkpoint: Checkpoint, path: Path) -> None:
    temporary = path.with_name(path.name + TEMPORARY)
    document = {field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint)}
    try:
        with temporary.open("wb") as file:
            _save(_plain({"format": FORMAT, "format_version": FORMAT_VERSION} | document), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the new name, too, must survive a power cut
    finally:
        os.close(directory)


def _save(document: Any, file: IO[bytes]) -> None:
    try:
        torch.save(document, file)
    except RuntimeError as error:
        # On a full disk PyTorch's archive writer fails a second time while it closes, and hides the first error.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def _plain(value: Any) -> Any:
    """Reduce a value to what `load` accepts; TypeError now rather than a file that cannot be read later."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(element) for key, element in value.items()}
    if isinstance(value, list):
        return [_plain(element) for element in value]
    if isinstance(value, tuple):
        return tuple(_plain(element) for element in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return value.detach()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a checkpoint cannot hold a {type(value).__name__}")


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"checkpoint '{path}' is missing; check the path.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"checkpoint '{path}' cannot be read: {error.strerror}.") from None


def _document(content: bytes, path: Path) -> Any:
    if not content.startswith(b"PK\x03\x04"):  # what every checkpoint begins with
        raise UserError(f"'{path}' is not a checkpoint; name a file that a training run wrote.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            # PyTorch itself does not compare checksums: damaged numbers would go unnoticed.
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"checkpoint '{path}' holds more than numbers, or is no checkpoint; not loaded.") from None
    except (zipfile.BadZipFile, EOFError, RuntimeError):
        pass
    raise UserError(f"checkpoint '{path}' is cut short or damaged; take an earlier one.")


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _shape(value: Any) -> str:
    if value is None:
        return "absent"
    return "×".join(map(str, value.shape)) or "a number" if isinstance(value, Tensor) else "no array"
