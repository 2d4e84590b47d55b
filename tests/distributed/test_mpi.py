"""Collectives: every value follows from rank and size, and buffers are poisoned first."""

import platform

import numpy as np

from cosmictagger.data.batch import allocate, image_dtype

from .ranks import on_ranks

POISON = 77


def marked(images: int, first: int) -> np.ndarray:
    """Records whose entry, pixels and labels follow from their number."""
    records = allocate(images, image_dtype(planes=2, max_voxels=5))
    numbers = first + np.arange(images)
    records["entry"] = numbers
    records["index"] = numbers[:, None, None] * 100 + np.arange(10).reshape(2, 5)
    records["value"] = records["index"] / 8
    records["label"] = (numbers % 3)[:, None, None]
    return records


@on_ranks
def test_sum_maximum_and_minimum(job):
    ranks, rank = job.communicator.size, job.communicator.rank
    values = np.array([[rank, -rank], [1.5, 2.0**40 + rank]])
    total = job.communicator.sum(values)
    assert total.tolist() == [
        [ranks * (ranks - 1) / 2, -ranks * (ranks - 1) / 2],
        [1.5 * ranks, ranks * 2.0**40 + ranks * (ranks - 1) / 2],
    ]
    assert job.communicator.maximum(values).tolist() == [[ranks - 1, 0], [1.5, 2.0**40 + ranks - 1]]
    assert job.communicator.minimum(values).tolist() == [[0, -(ranks - 1)], [1.5, 2.0**40]]
    assert values[0].tolist() == [rank, -rank], "the argument is left alone"


@on_ranks
def test_sum_of_nothing_is_nothing(job):
    assert job.communicator.sum(np.empty((0, 3))).shape == (0, 3)


@on_ranks
def test_a_slice_is_summed_as_well_as_a_whole_array(job):
    values = np.arange(12.0).reshape(3, 4)[:, 1]
    assert job.communicator.sum(values).tolist() == [job.communicator.size * v for v in (1, 5, 9)]


@on_ranks
def test_any_is_true_when_the_last_rank_says_so(job):
    last = job.communicator.rank == job.communicator.size - 1
    assert job.communicator.any(last) is True
    assert job.communicator.any(False) is False


@on_ranks
def test_hosts_are_named_for_every_rank(job):
    assert job.communicator.hosts() == [platform.node()] * job.communicator.size


@on_ranks
def test_the_library_has_a_name_and_a_version(job):
    assert any(name in job.communicator.library for name in ("MPICH", "Open MPI"))
    assert any(letter.isdigit() for letter in job.communicator.library)


@on_ranks
def test_broadcast_overwrites_all_others(job):
    mine = job.communicator.rank == 0
    values = np.arange(6, dtype=np.int16).reshape(2, 3) if mine else np.full((2, 3), POISON, np.int16)
    job.communicator.broadcast(values)
    assert values.tolist() == [[0, 1, 2], [3, 4, 5]]


@on_ranks
def test_a_broadcast_in_several_messages(job):
    from cosmictagger.distributed import mpi

    whole, mpi.MOST_BYTES = mpi.MOST_BYTES, 7
    try:
        content = bytes(range(200)) if job.communicator.rank == 0 else None
        assert job.communicator.broadcast_bytes(content) == bytes(range(200))
        assert job.communicator.broadcast_bytes(b"" if job.communicator.rank == 0 else None) == b""
    finally:
        mpi.MOST_BYTES = whole


@on_ranks
def test_gather_keeps_the_order_of_the_ranks(job):
    rank, size = job.communicator.rank, job.communicator.size
    gathered = job.communicator.gather(marked(2, first=2 * rank))
    if rank:
        assert gathered is None
        return
    assert gathered.tobytes() == marked(2 * size, first=0).tobytes()


@on_ranks
def test_scatter_gives_each_rank_its_part(job):
    rank, size = job.communicator.rank, job.communicator.size
    part = marked(3, first=POISON)
    batch = marked(3 * size, first=10) if rank == 0 else None
    arrived = job.communicator.start_scatter(batch, part)
    job.patience.wait(arrived, "the test's scatter")
    assert part.tobytes() == marked(3, first=10 + 3 * rank).tobytes()


@on_ranks
def test_split_keeps_the_order_of_the_ranks(job):
    rank, size = job.communicator.rank, job.communicator.size
    half = job.communicator.split(rank % 2)
    assert half.rank == rank // 2
    assert half.sum(np.array([float(rank)]))[0] == sum(range(rank % 2, size, 2))


@on_ranks
def test_all_ranks_of_this_machine_share_a_host(job):
    host = job.communicator.split_hosts()
    assert (host.rank, host.size) == (job.communicator.rank, job.communicator.size)
    assert (job.placement.local_rank, job.placement.local_size) == (host.rank, host.size)
