"""Device, threads and seeds of a rank, settled once at the start."""

import ctypes
import dataclasses
import random

import numpy as np
import torch

from cosmictagger.config.sections import RunConfig
from cosmictagger.distributed.placement import Placement
from cosmictagger.errors import UserError
from cosmictagger.reporting.system import cpu_model

# Parameters of mallopt(3): up to which size freed memory stays with the process, and is taken from what it has.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 2**31 - 1
OLDER_LIMIT = 2**25  # what mallopt of older libraries takes at most for M_MMAP_THRESHOLD


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resources:
    """What a rank computes with."""

    device: torch.device
    device_name: str
    threads: int
    cores: int  # that this rank may use

    @property
    def spare_core(self) -> bool:
        """Whether a core is free for other things while the network computes."""
        return self.device.type != "cpu" or self.threads < self.cores

    @property
    def description(self) -> str:
        """Say it in a line."""
        return f"Device: {self.device_name}, {self.threads} thread{'s' if self.threads > 1 else ''} a rank"

    def synchronize(self) -> None:
        """Wait until the device has done all its work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def peak_device_bytes(self) -> int | None:
        """Return the most memory held on an accelerator so far; None on a CPU."""
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None


def acquire(config: RunConfig, placement: Placement) -> Resources:
    """Choose device and threads for a rank, given its place on its host, and seed all random numbers."""
    device = _device(config, placement.local_rank)
    threads = config.intra_op_parallelism_threads or placement.cores
    # Weights that decay towards zero end as subnormal numbers, with which CPUs are many times slower: one training fell
    # from 6 to 1 images/s. Threads inherit this from the one that makes them, so it comes before the first of them.
    torch.set_flush_denormal(True)
    if device.type == "cpu":
        _keep_freed_memory()
    torch.set_num_threads(threads)
    if config.inter_op_parallelism_threads and torch.get_num_interop_threads() != config.inter_op_parallelism_threads:
        torch.set_num_interop_threads(config.inter_op_parallelism_threads)
    if torch.are_deterministic_algorithms_enabled() != config.deterministic:  # the call alone loads PyTorch's compiler
        torch.use_deterministic_algorithms(config.deterministic)
    torch.manual_seed(config.seed)
    np.random.seed(config.seed % 2**32)
    random.seed(config.seed)
    return Resources(device=device, device_name=_name(device), threads=threads, cores=placement.cores)


def _keep_freed_memory() -> None:
    """Have the C library keep freed memory: a step would otherwise get its arrays anew, page by page, zeroed."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return  # another C library than glibc
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
    if not mallopt(M_MMAP_THRESHOLD, KEPT_BYTES):
        mallopt(M_MMAP_THRESHOLD, OLDER_LIMIT)


def _device(config: RunConfig, local_rank: int) -> torch.device:
    if config.compute_mode == "CPU":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError("--compute-mode: GPU was asked for, but PyTorch finds none here; take --compute-mode CPU.")
    device = torch.device("cuda", local_rank % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU ({cpu_model()})"
