"""What a run settles before it computes."""

import platform
import subprocess
import sys

import pytest

# In a process of its own: threads that exist already keep their ways.
SUBNORMAL = """
import torch
from cosmictagger.config.sections import RunConfig
from cosmictagger.distributed.placement import Placement
from cosmictagger.modes.resources import acquire
from cosmictagger.models.sparse.engines import choose_engine

acquire(RunConfig(intra_op_parallelism_threads=2), Placement(cores=2))
values = torch.full((1 << 16, 8), 1e-38)
assert (values * 0.5 == 0).all(), "by PyTorch, in all threads"
engine = choose_engine("auto", torch.device("cpu"))
values = torch.full((1 << 16, 8), 1.2e-38)  # just normal; products with the weights are not
weight = torch.full((8, 8, 1, 1), 0.0625)
assert (engine.pointwise(values, weight, None) == 0).all(), f"by the engine {engine.name}, in all threads"
"""


def test_subnormal_numbers_count_as_zero_in_every_thread():
    done = subprocess.run([sys.executable, "-c", SUBNORMAL], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


# Pages that memory is made of when it is first touched: a tensor of 64 MB has 16 thousand.
FAULTS = """
import resource
import torch
from cosmictagger.config.sections import RunConfig
from cosmictagger.distributed.placement import Placement
from cosmictagger.modes.resources import acquire

acquire(RunConfig(), Placement(cores=1))
for _ in range(16):  # until what is kept fits, alignment included
    torch.ones(1 << 24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_freed_memory_is_kept_for_the_next_step():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1000
