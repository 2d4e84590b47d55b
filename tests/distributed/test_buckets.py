"""Flat buffers take gradients in and give their sums back."""

import pytest
import torch

from cosmictagger.distributed.buckets import Bucket, fill_buckets


def parameters(*shapes, dtype=torch.float32) -> list[torch.nn.Parameter]:
    found = [torch.nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape in shapes]
    for number, parameter in enumerate(found):
        parameter.grad = torch.full_like(parameter, number + 1.0)
    return found


def test_a_bucket_is_complete_when_every_gradient_is_in():
    own = parameters((2, 3), (4,))
    bucket = Bucket(own, [1, 0], scale=0.5)
    assert (bucket.complete, bucket.lacks(0)) == (False, True)
    bucket.put(0, own[0])
    assert (bucket.complete, bucket.lacks(0)) == (False, False)
    bucket.put(1, own[1])
    assert bucket.complete
    assert bucket.flat.tolist() == [1.0] * 4 + [0.5] * 6


def test_gradients_come_back_as_views_of_the_buffer():
    own = parameters((2, 3), (4,))
    bucket = Bucket(own, [0, 1], scale=1.0)
    for number, parameter in enumerate(own):
        bucket.put(number, parameter)
    bucket.flat.copy_(torch.arange(10.0))
    bucket.deliver(own)
    assert own[0].grad.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert own[1].grad.tolist() == [6, 7, 8, 9]
    assert own[1].grad.untyped_storage().data_ptr() == bucket.flat.untyped_storage().data_ptr()
    assert not bucket.complete, "the next step's gradients are waited for"


def test_a_gradient_lies_in_memory_as_its_parameter_does():
    parameter = torch.nn.Parameter(torch.zeros(4, 3, 2, 2).to(memory_format=torch.channels_last))
    parameter.grad = torch.arange(48.0).view(4, 3, 2, 2)
    expected = parameter.grad.clone()
    bucket = Bucket([parameter], [0], scale=1.0)
    bucket.put(0, parameter)
    bucket.deliver([parameter])
    assert parameter.grad.stride() == parameter.stride()
    assert torch.equal(parameter.grad, expected)
    torch.optim.Adam([parameter], lr=0.1, fused=True).step()
    # Adam's first step is the sign of the gradient: only its element 0 stays.
    assert parameter.flatten().tolist() == pytest.approx([0.0] + [-0.1] * 47, abs=1e-6)


def test_a_missing_gradient_counts_as_zero():
    own = parameters((3,))
    bucket = Bucket(own, [0], scale=1.0)
    bucket.flat.fill_(7)
    own[0].grad = None
    bucket.put(0, own[0])
    bucket.deliver(own)
    assert own[0].grad.tolist() == [0, 0, 0]


def test_sixteen_bits_are_widened_and_narrowed_again():
    own = parameters((2,), dtype=torch.bfloat16)
    bucket = Bucket(own, [0], scale=1.0)
    bucket.put(0, own[0])
    assert bucket.flat.dtype is torch.float32
    bucket.deliver(own)
    assert own[0].grad.dtype is torch.bfloat16
    assert own[0].grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("size", "expected"),
    [(1, [[0], [1], [2], [3]]), (24, [[0, 1], [2, 3]]), (1000, [[0, 1, 2, 3]])],
)
def test_buckets_hold_so_many_bytes_or_one_parameter(size, expected):
    own = parameters((3,), (3,), (4,), (2,))
    assert [list(bucket.numbers) for bucket in fill_buckets(own, range(4), size, 1.0)] == expected


def test_types_do_not_mix():
    own = [*parameters((3,), (3,)), *parameters((3,), dtype=torch.float64)]
    buckets = fill_buckets(own, [0, 2, 1], 1000, 1.0)
    assert [list(bucket.numbers) for bucket in buckets] == [[0, 1], [2]]
    assert [bucket.flat.dtype for bucket in buckets] == [torch.float32, torch.float64]
