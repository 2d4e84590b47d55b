"""Where a rank runs: its place among the ranks of its host, and the cores that it may use."""

import dataclasses
import os
from typing import Literal

import numpy as np

from cosmictagger.distributed.communicator import Communicator

MOST_CORES = 4096  # on one host


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """A rank among the `local_size` ranks of its host, and the number of `cores` that are its own."""

    local_rank: int = 0
    local_size: int = 1
    cores: int
    description: str = ""


def alone() -> Placement:
    """Place the only rank of a run."""
    return Placement(cores=len(own_cores()))


def place(bind: Literal["auto", "none"], host: Communicator) -> Placement:
    """Settle which cores each of the ranks of a `host` uses.

    Where the launcher has given every rank the same cores and there are enough of them, each rank gets an even,
    contiguous part and is bound to it; threads that it starts from now on inherit that.
    """
    cores = own_cores()
    count, bound = max(1, len(cores) // host.size), "not bound"
    if not _all_alike(cores, host):
        count, bound = len(cores), "bound by the launcher"
    elif host.size == 1:
        bound = "alone on its host"
    elif bind == "none":
        bound = "not bound (--bind none)"
    elif len(cores) < host.size:
        bound = f"not bound: {host.size} ranks of a host share {len(cores)}"
    elif hasattr(os, "sched_setaffinity"):
        own = split(cores, host.rank, host.size)
        os.sched_setaffinity(0, own)
        count, bound = len(own), "bound to its part of the host's (--bind none leaves it free)"
    description = f"{count} core{'s' if count > 1 else ''} a rank, {bound}"
    return Placement(local_rank=host.rank, local_size=host.size, cores=count, description=description)


def own_cores() -> list[int]:
    """List the cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def split(cores: list[int], rank: int, ranks: int) -> list[int]:
    """Take the part of one of `ranks` ranks: contiguous, and as even as it goes."""
    return cores[len(cores) * rank // ranks : len(cores) * (rank + 1) // ranks]


def _all_alike(cores: list[int], host: Communicator) -> bool:
    mask = np.zeros(MOST_CORES)
    mask[cores] = 1
    return bool((host.minimum(mask) == host.maximum(mask)).all())
