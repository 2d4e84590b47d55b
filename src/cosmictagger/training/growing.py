"""What a trained network may become before it goes on: one with more levels, other statistics, fewer pixels."""

import dataclasses
from typing import Literal

import torch

from cosmictagger.config.sections import NetworkConfig, TrainingConfig
from cosmictagger.errors import UserError
from cosmictagger.models import build_network
from cosmictagger.models.crossings import SBND_OFFSET, offset_of_pixels
from cosmictagger.training.checkpoints import Checkpoint

Growth = Literal["exchange_levels", "crossing_levels", "doubled_levels", "supervised_levels"]

RUNNING = (".running_mean", ".running_var")  # how the names of running statistics end


def by_image(checkpoint: Checkpoint) -> Checkpoint:
    """Let a network of --norm-statistics batch go on with those of each image.

    To one that was trained with one image on each rank they are the same in training; its running statistics go.
    """
    model = {name: tensor for name, tensor in checkpoint.model.items() if not name.endswith(RUNNING)}
    network = checkpoint.network | {"norm_statistics": "image"}
    # The optimizer knows parameters alone; what was measured by running averages no longer holds.
    return dataclasses.replace(checkpoint, model=model, network=network, metrics={})


def grown(
    checkpoint: Checkpoint, option: Growth, levels: int | tuple[int, ...], crossing_offset: float | None = None
) -> Checkpoint:
    """Let a network go on as one with `levels` of an option: the last of the new steps is zero, so it computes the same.

    The others are drawn at random, always the same ones. Raises UserError where the network has such levels, or not that
    many levels at all, or options that this version does not know, or where its new blocks would change what it computes.
    """
    flag = f"--{option.replace('_', '-')}"
    if checkpoint.network.get(option, 0):
        raise UserError(f"{flag}: the network has such levels already.")
    unknown = checkpoint.network.keys() - {field.name for field in dataclasses.fields(NetworkConfig)}
    if unknown:
        raise UserError(f"{flag}: the network has options of another version: {', '.join(sorted(unknown))}.")
    config = checkpoint.network | {option: levels}
    if option == "crossing_levels":
        default = offset_of_pixels(SBND_OFFSET, checkpoint.inputs["downsample"])
        config["crossing_offset"] = default if crossing_offset is None else crossing_offset
    if option == "doubled_levels" and not (config["residual"] and config["res_blocks_per_layer"]):
        raise UserError(f"{flag}: only a network of residual blocks computes the same with more of them.")
    size = 2 ** (config["network_depth"] + 1)  # any that can be halved so often
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(NetworkConfig(**config), checkpoint.inputs["nplanes"], (size, size))
    return dataclasses.replace(checkpoint, model=network.state_dict() | checkpoint.model, network=config)


def with_suppression(checkpoint: Checkpoint, threshold: float) -> Checkpoint:
    """Let a network go on with the pixels that --zero-suppression `threshold` leaves it; it must be trained on with them.

    Raises UserError where that is no threshold.
    """
    TrainingConfig(zero_suppression=threshold)  # checks it
    return dataclasses.replace(checkpoint, inputs=checkpoint.inputs | {"zero_suppression": threshold}, metrics={})
