"""Choose the strategies of a run: one rank, or many."""

import dataclasses
import os
from collections.abc import Callable

from cosmictagger.config.sections import RunConfig
from cosmictagger.data.loader import Loader
from cosmictagger.distributed.communicator import (
    Communicator,
    Feed,
    GradientStrategy,
    SerialCommunicator,
    SerialFeed,
    SerialGradients,
)
from cosmictagger.errors import UserError

# How launchers tell a process the number of ranks: MPICH and Intel, Open MPI, Slurm, PALS (aprun's successor).
SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", "PALS_NRANKS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distribution:
    """The strategies of a run: how ranks talk, how gradients are averaged, how batches reach the ranks."""

    communicator: Communicator
    gradients: GradientStrategy
    make_feed: Callable[[Loader], Feed]
    hosts: tuple[str, ...]


def connect(config: RunConfig) -> Distribution:
    """Set up the strategies that `config` asks for."""
    ranks = next((int(os.environ[name]) for name in SIZE_VARIABLES if os.environ.get(name, "").isdigit()), 1)
    if config.distributed and ranks > 1:
        raise UserError("--distributed: several ranks are not supported yet; start one process.")
    communicator = SerialCommunicator()
    return Distribution(
        communicator=communicator,
        gradients=SerialGradients(),
        make_feed=SerialFeed,
        hosts=tuple(communicator.hosts()),
    )
