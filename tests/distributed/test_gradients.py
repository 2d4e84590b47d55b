"""N ranks with b images each do what one rank with N·b images does, whatever carries the gradients."""

import contextlib
import importlib.util

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cosmictagger.config.sections import Config, DistributionConfig, NetworkConfig, RunConfig
from cosmictagger.distributed.buckets import fill_buckets
from cosmictagger.distributed.state import average_buffers, broadcast_state, summing
from cosmictagger.models.build import build_network
from cosmictagger.models.synchronized import synchronize

from .ranks import on_ranks

IMAGES, SHAPE = 24, (8, 16)
# float32 sums in another order, relative to the largest gradient of a parameter: seen 1e-6 at most.
TOLERANCE = 1e-5
FLOAT64_TOLERANCE = 1e-12
# One rounding to 8 bits on the way there and one on the way back, each at most 2^-9 of a rank's own gradient.
BFLOAT16_TOLERANCE = 2.0**-7


def strategy(job, mode: str, compress: str = "none", bucket_mb: float = 0.002):
    from cosmictagger.distributed.strategies import choose_gradients

    options = DistributionConfig(distributed_mode=mode, compress_gradients=compress, bucket_size_mb=bucket_mb)
    return choose_gradients(Config(run=RunConfig(distributed=True), distribution=options), job)[0]


def modes(job) -> list[str]:
    """The strategies that can be had here; Horovod is built for the MPI of the environment alone."""
    horovod = importlib.util.find_spec("horovod") is not None and "MPICH" in job.communicator.library
    return ["mpi", "ddp", "horovod"] if horovod else ["mpi", "ddp"]


def network(seed: int = 0, **options) -> torch.nn.Module:
    torch.manual_seed(seed)
    small = {"n_initial_filters": 4, "network_depth": 1, "res_blocks_deepest_layer": 1, "res_blocks_final": 0}
    return build_network(NetworkConfig(**(small | options)), 3, SHAPE)


def images() -> torch.Tensor:
    return torch.rand(IMAGES, 3, *SHAPE, generator=torch.Generator().manual_seed(9))


def loss(module: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """The mean over the images of a batch of something that depends on all of them and all parameters."""
    labels = (batch * 3).long().flatten(0, 1)
    return F.cross_entropy(module(batch).flatten(0, 1), labels)


def own_part(job, batch: torch.Tensor) -> torch.Tensor:
    share = IMAGES // job.communicator.size
    return batch[job.communicator.rank * share : (job.communicator.rank + 1) * share]


def gradients_of(module: torch.nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in module.parameters()]


def reference(module: torch.nn.Module) -> list[torch.Tensor]:
    loss(module, images().to(next(module.parameters()).dtype)).backward()
    return gradients_of(module)


def check_equal(found, expected, tolerance=TOLERANCE):
    for own, whole in zip(found, expected, strict=True):
        assert (own - whole).abs().max() <= tolerance * whole.abs().max()


def step(job, averaging, module, micro_steps: int = 1) -> list[torch.Tensor]:
    module.zero_grad(set_to_none=True)
    parts = own_part(job, images()).to(next(module.parameters()).dtype).chunk(micro_steps)
    for number, part in enumerate(parts):
        with averaging.micro_step(number == micro_steps - 1):
            (loss(module, part) / micro_steps).backward()
    averaging.finish()
    return gradients_of(module)


@contextlib.contextmanager
def prepared(job, mode: str, module: torch.nn.Module, **options):
    averaging = strategy(job, mode, **options)
    averaging.prepare(module, torch.optim.SGD(module.parameters(), lr=0.1))
    yield averaging
    job.finish()


@on_ranks
def test_ranks_together_equal_one_rank_with_all_images(job):
    for mode in modes(job):
        expected = reference(network(batch_norm=False))
        module = network(batch_norm=False)
        with prepared(job, mode, module) as averaging:
            for _ in range(3):  # the second step fills the buckets anew, in the order of the first
                check_equal(step(job, averaging, module), expected)


@on_ranks
def test_the_strategies_agree(job):
    found = []
    for mode in modes(job):
        module = network(batch_norm=False)
        with prepared(job, mode, module) as averaging:
            found.append(step(job, averaging, module))
    for other in found[1:]:
        check_equal(other, found[0])


@on_ranks
def test_ranks_get_the_same_bits(job):
    for mode in modes(job):
        module = network(batch_norm=False)
        with prepared(job, mode, module) as averaging:
            flat = torch.cat([g.flatten() for g in step(job, averaging, module)]).double().numpy()
        assert (job.communicator.minimum(flat) == job.communicator.maximum(flat)).all(), mode


@on_ranks
def test_synchronized_batch_norm_equals_one_rank_with_all_images(job):
    # In float64: a bias before a batch normalization has no gradient but rounding errors.
    expected_module = network(norm_statistics="batch").double()
    expected = reference(expected_module)
    largest = max(gradient.abs().max() for gradient in expected)
    for mode in modes(job):
        module = network(norm_statistics="batch").double()
        synchronize(module, summing(job.communicator))
        with prepared(job, mode, module) as averaging:
            found = step(job, averaging, module)
        for own, whole in zip(found, expected, strict=True):
            assert (own - whole).abs().max() <= FLOAT64_TOLERANCE * largest
        for own, whole in zip(module.buffers(), expected_module.buffers(), strict=True):
            assert (own - whole).abs().max() <= FLOAT64_TOLERANCE * whole.abs().max()


@on_ranks
def test_accumulated_micro_steps_equal_one_large_batch(job):
    expected = reference(network(batch_norm=False))
    for mode in modes(job):
        module = network(batch_norm=False)
        with prepared(job, mode, module) as averaging:
            for _ in range(2):
                check_equal(step(job, averaging, module, micro_steps=2), expected)


@on_ranks
def test_only_the_last_micro_step_communicates(job):
    module = network(batch_norm=False)
    with prepared(job, "mpi", module) as averaging:
        started = []
        add_up = averaging._transport.add_up
        averaging._transport.add_up = lambda bucket: started.append(bucket) or add_up(bucket)
        with averaging.micro_step(False):
            loss(module, own_part(job, images())).backward()
        assert started == []
        with averaging.micro_step(True):
            loss(module, own_part(job, images())).backward()
        assert len(started) == len(averaging._buckets) > 3, "sums begin within the backward pass"
        averaging.finish()


@on_ranks
def test_sixteen_bits_cost_two_roundings(job):
    for mode in ("mpi", "ddp"):
        expected = reference(network(batch_norm=False))
        module = network(batch_norm=False)
        largest = [job.communicator.maximum(np.array([float(g.abs().max())]))[0] for g in own_gradients(job)]
        with prepared(job, mode, module, compress="bfloat16") as averaging:
            for own, whole, scale in zip(step(job, averaging, module), expected, largest, strict=True):
                # gloo rounds after each of its additions, too.
                roundings = 1 if mode == "mpi" else job.communicator.size
                assert (own - whole).abs().max() <= roundings * BFLOAT16_TOLERANCE * scale


@on_ranks
def test_the_second_message_of_a_bucket_waits_for_its_turn(job):
    from cosmictagger.distributed.mpi_transport import Bfloat16Transport

    class Noted:
        """A communicator that notes when an allgather begins."""

        def __init__(self, comm):
            self.comm, self.begun = comm, []

        def Iallgather(self, sent, received):  # noqa: N802 (as mpi4py has it)
            self.begun.append(sent.size)
            return self.comm.Iallgather(sent, received)

    size = job.communicator.size
    own = [torch.nn.Parameter(torch.zeros(length * size)) for length in (3, 5)]
    buckets = fill_buckets(own, [0, 1], 1, 1.0)
    transport = Bfloat16Transport(job.communicator.comm)
    transport._second = second = Noted(transport._second)
    sums = [transport.add_up(bucket) for bucket in buckets]
    for bucket, transfer in zip(buckets, sums, strict=True):
        bucket.flat.fill_(1.0)
        assert next(transfer, "done") is None
    assert second.begun == [], "starting a sum must not start its second message, however fast the first one was"
    for transfer in sums:
        job.patience.wait(lambda transfer=transfer: next(transfer, "done") == "done", "the test's sum")
    assert second.begun == [3, 5]
    assert [set(bucket.flat.tolist()) for bucket in buckets] == [{float(size)}] * 2


def own_gradients(job) -> list[torch.Tensor]:
    module = network(batch_norm=False)
    loss(module, own_part(job, images())).backward()
    return gradients_of(module)


@on_ranks
def test_gradients_of_sixteen_bit_parameters_are_summed_in_thirty_two(job):
    size = job.communicator.size
    module = torch.nn.Linear(3, 2, bias=False, dtype=torch.bfloat16)
    with prepared(job, "mpi", module) as averaging, averaging.micro_step(True):
        # 1 on rank 0 and 2^-8 on the others: lost, one by one, in sums of bfloat16.
        slope = 1.0 if job.communicator.rank == 0 else 2.0**-8
        (module.weight * slope).sum().backward()
    averaging.finish()
    mean = torch.tensor((1 + (size - 1) * 2.0**-8) / size).bfloat16()
    assert module.weight.grad.dtype is torch.bfloat16
    assert (module.weight.grad == mean).all()


@on_ranks
def test_a_parameter_without_gradient_on_some_ranks(job):
    first, second = torch.nn.Linear(2, 2, bias=False), torch.nn.Linear(2, 2, bias=False)
    module = torch.nn.ModuleList([first, second])
    with prepared(job, "mpi", module, bucket_mb=1e-6) as averaging:
        for _ in range(2):
            module.zero_grad(set_to_none=True)
            with averaging.micro_step(True):
                used = first if job.communicator.rank == 0 else second
                used.weight.sum().backward()
            averaging.finish()
            size = job.communicator.size
            assert first.weight.grad.tolist() == [[pytest.approx(1 / size)] * 2] * 2
            assert second.weight.grad.tolist() == [[pytest.approx((size - 1) / size)] * 2] * 2


@on_ranks
def test_a_bucket_may_be_the_whole_network_or_one_parameter(job):
    expected = reference(network(batch_norm=False))
    for size in (1e-6, 1000.0):
        module = network(batch_norm=False)
        with prepared(job, "mpi", module, bucket_mb=size) as averaging:
            check_equal(step(job, averaging, module), expected)


@on_ranks
def test_state_is_that_of_rank_0(job):
    rank = job.communicator.rank
    module = network(seed=rank).to(torch.float32)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    loss(module, own_part(job, images())).backward()
    optimizer.step()
    job.communicator.any(False)
    broadcast_state(job.communicator, module, optimizer)
    state = [*module.state_dict().values()]
    state += [value for of_one in optimizer.state_dict()["state"].values() for value in of_one.values()]
    flat = torch.cat([value.detach().flatten().double() for value in state]).numpy()
    assert (job.communicator.minimum(flat) == job.communicator.maximum(flat)).all()
    assert np.abs(flat).max() > 0


@on_ranks
def test_sixteen_bit_state_is_broadcast_too(job):
    module = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    torch.nn.init.constant_(module.weight, 1.5 + job.communicator.rank)
    broadcast_state(job.communicator, module, torch.optim.SGD(module.parameters(), lr=0.1))
    assert (module.weight == 1.5).all()


@on_ranks
def test_networks_that_differ_are_refused(job):
    if job.communicator.size == 1:
        pytest.skip("one rank has nobody to differ from")
    module = torch.nn.Linear(2, 2 + job.communicator.rank)
    with pytest.raises(RuntimeError, match="different networks or optimizers"):
        broadcast_state(job.communicator, module, torch.optim.SGD(module.parameters(), lr=0.1))


@on_ranks
def test_buffers_are_averaged(job):
    module = torch.nn.BatchNorm1d(2)
    module.running_mean.fill_(float(job.communicator.rank))
    average_buffers(job.communicator, [module.running_mean, module.running_var])
    assert module.running_mean.tolist() == [(job.communicator.size - 1) / 2] * 2
    assert module.running_var.tolist() == [1.0, 1.0]
