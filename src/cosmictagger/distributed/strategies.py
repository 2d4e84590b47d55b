"""Which gradient strategy a job of several ranks takes, and why."""

from collections.abc import Callable
from typing import Literal

import torch.distributed as dist

from cosmictagger.config.sections import Config
from cosmictagger.distributed.gradients import BucketedGradients, Transport
from cosmictagger.distributed.job import Job
from cosmictagger.distributed.mpi_transport import gpu_aware, make_transport
from cosmictagger.errors import UserError

MEGABYTE = 1e6
Mode = Literal["mpi", "horovod", "ddp"]


def choose_gradients(config: Config, job: Job) -> tuple[BucketedGradients, str]:
    """Make the strategy that `config` asks for, and say in a line what it is and why."""
    mode, reason = choose_mode(config)
    compress = config.distribution.compress_gradients != "none"
    if mode == "horovod" and compress:
        raise UserError("--compress-gradients: horovod knows no bfloat16; take --distributed-mode mpi or ddp.")
    gradients = BucketedGradients(
        mode,
        _transport(mode, config, job),
        job.communicator,
        job.patience,
        bucket_bytes=config.distribution.bucket_size_mb * MEGABYTE,
    )
    return gradients, f"Gradients: {mode} ({reason}){', in 16 bits' if compress else ''}"


def choose_mode(config: Config) -> tuple[Mode, str]:
    """Say what averages the gradients, and why."""
    wanted = config.distribution.distributed_mode
    if wanted != "auto":
        return wanted, "as asked for"
    if config.run.compute_mode == "CPU":
        return "mpi", "auto: on CPUs MPI sums in place, with nothing else to install"
    if gpu_aware():
        return "mpi", "auto: this MPI takes GPU memory"
    if dist.is_nccl_available():
        return "ddp", "auto: NCCL, as this MPI does not say that it takes GPU memory"
    return "mpi", "auto: through host memory, as there is neither NCCL nor a GPU-aware MPI"


def _transport(mode: Mode, config: Config, job: Job) -> Callable[[], Transport]:
    """Return what makes the transport: only a training needs one, and they are not free."""
    options = config.distribution

    def over_mpi() -> Transport:
        return make_transport(job.communicator.comm, options.compress_gradients, options.gpu_buffers)

    def over_torch() -> Transport:
        from cosmictagger.distributed.torch_transport import TorchTransport

        compress = options.compress_gradients == "bfloat16"
        transport = TorchTransport(job.communicator, on_gpu=config.run.compute_mode == "GPU", compress=compress)
        job.at_end(transport.close)
        return transport

    def over_horovod() -> Transport:
        from cosmictagger.distributed.horovod_transport import HorovodTransport

        transport = HorovodTransport()
        job.at_end(transport.close)
        return transport

    return {"mpi": over_mpi, "ddp": over_torch, "horovod": over_horovod}[mode]
