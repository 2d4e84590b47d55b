"""Choose the strategies of a run: one rank, or many."""

import dataclasses
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from cosmictagger.config.sections import Config
from cosmictagger.distributed.communicator import Communicator, DataStrategy, GradientStrategy
from cosmictagger.distributed.placement import Placement, alone
from cosmictagger.distributed.serial import SerialCommunicator, SerialData, SerialGradients
from cosmictagger.errors import UserError

if TYPE_CHECKING:
    from cosmictagger.distributed.job import Job

# How launchers tell a process the number of ranks: MPICH and Intel, Open MPI, PALS, srun. (SLURM_NTASKS says less: it is
# also set where a single process is started by hand within an allocation.)
SIZE_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PALS_NRANKS", "SLURM_STEP_NUM_TASKS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distribution:
    """The strategies of a run: how ranks talk, share data and average gradients; `notes` say what was chosen and why.

    As a context it ends all ranks together: one that fails takes the whole job with it.
    """

    communicator: Communicator
    gradients: GradientStrategy
    data: DataStrategy
    placement: Placement
    hosts: tuple[str, ...]
    notes: tuple[str, ...] = ()
    ending: AbstractContextManager[Any] = dataclasses.field(default_factory=nullcontext)

    @property
    def is_root(self) -> bool:
        """Whether this rank writes files and speaks."""
        return self.communicator.rank == 0

    def __enter__(self) -> Self:
        self.ending.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ending.__exit__(kind, error, trace)


def connect(config: Config) -> Distribution:
    """Set up the strategies that `config` asks for. MPI is initialised here, and only for --distributed."""
    if not config.run.distributed:
        _refuse_copies()
        return _one_rank(SerialCommunicator(), alone())
    _require_mpi()
    from cosmictagger.distributed.job import Job

    job = Job(config)
    if job.communicator.size == 1:
        _refuse_strangers()
        return _one_rank(job.communicator, job.placement)
    with job.guarding():
        return _many_ranks(config, job)


def _one_rank(communicator: Communicator, placement: Placement) -> Distribution:
    return Distribution(
        communicator=communicator,
        gradients=SerialGradients(),
        data=SerialData(),
        placement=placement,
        hosts=(platform.node(),),
    )


def _many_ranks(config: Config, job: "Job") -> Distribution:
    from cosmictagger.distributed.scatter import ScatteredData
    from cosmictagger.distributed.strategies import choose_gradients

    data = ScatteredData(job.communicator, config.distribution.io_groups)
    job.at_end(data.finish)
    gradients, note = choose_gradients(config, job)
    return Distribution(
        communicator=job.communicator,
        gradients=gradients,
        data=data,
        placement=job.placement,
        hosts=job.hosts,
        notes=(_describe(job.hosts, job.placement, config.distribution.io_groups), note),
        ending=job,
    )


def _describe(hosts: tuple[str, ...], placement: Placement, groups: int) -> str:
    different = len(set(hosts))
    return (
        f"Ranks: {len(hosts)} on {different} host{'s' if different > 1 else ''}, {groups} of them reading; "
        f"{placement.description}"
    )


def _refuse_copies() -> None:
    """Raise UserError where a launcher started several copies of a run that knows nothing of the others."""
    for name, size in _launched():
        raise UserError(
            f"--distributed: {size} processes were started ({name}), and each would do the whole run; add -d, or start one."
        )


def _refuse_strangers() -> None:
    """Raise UserError where a launcher started several ranks and MPI, not knowing its protocol, sees just this one."""
    for name, size in _launched():
        raise UserError(
            f"--distributed: {size} processes were started ({name}), but MPI sees one: its library does not belong to the "
            "launcher; use the mpirun that came with it, or another --mpi type of srun."
        )


def _launched() -> list[tuple[str, int]]:
    found = [(name, os.environ.get(name, "")) for name in SIZE_VARIABLES]
    return [(name, int(size)) for name, size in found if size.isdigit() and int(size) > 1]


def _require_mpi() -> None:
    try:
        import mpi4py.MPI  # noqa: F401
    except (ImportError, RuntimeError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--distributed: MPI cannot be used ({problem}); install one (pip install mpich) or load your centre's module."
        ) from None
