"""The unfolded convolution of the deepest level against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from cosmictagger.models.parameters import Layout
from cosmictagger.models.sparse import winograd
from cosmictagger.models.sparse.merged import MergedVocabulary, UnfoldedConvolution

LAYOUT = Layout(nplanes=3, volumetric=False, shared=True, merged=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("size", "shape"), [(3, (4, 7)), (5, (3, 2)), (7, (1, 1)), (3, (21, 16)), (3, (40, 30))])
def test_equals_conv2d(size, shape, bias, layout):
    torch.manual_seed(0)
    convolution = MergedVocabulary(LAYOUT).convolution(4, 5, size, bias).double()
    assert isinstance(convolution, UnfoldedConvolution)
    images = torch.randn(4, 4, *shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    parameters = [images, *convolution.parameters()]
    expected = F.conv2d(images, convolution.weight, convolution.bias, padding=size // 2)
    result = convolution(images)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(result, expected)
    for got, wanted in zip(
        torch.autograd.grad(result, parameters, slope), torch.autograd.grad(expected, parameters, slope), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("inputs", "outputs"), [(128, 130), (131, 128)])
@pytest.mark.parametrize("shape", [(4, 7), (3, 2), (1, 1), (21, 16), (5, 8)])
def test_many_channels_are_convolved_by_fewer_products(size, inputs, outputs, shape):
    torch.manual_seed(0)
    images = torch.randn(5, inputs, *shape, dtype=torch.float64, requires_grad=True)
    convolution = MergedVocabulary(LAYOUT).convolution(inputs, outputs, size, True).double()
    assert winograd.suits(images, convolution.weight)
    parameters = [images, *convolution.parameters()]
    expected, result = F.conv2d(images, convolution.weight, convolution.bias, padding=size // 2), convolution(images)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(result, expected)
    for got, wanted in zip(
        torch.autograd.grad(result, parameters, slope), torch.autograd.grad(expected, parameters, slope), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("size", [3, 5])
def test_fewer_products_lose_about_two_bits_of_float32(size):
    torch.manual_seed(0)
    images, weight = torch.randn(1, 256, 20, 32), torch.randn(256, 256, size, size)
    exact = F.conv2d(images.double(), weight.double(), padding=size // 2)
    error = (winograd.convolve((images,), weight) - exact).norm() / exact.norm()
    plain = (F.conv2d(images, weight, padding=size // 2) - exact).norm() / exact.norm()
    assert plain / 2 < error < 16 * plain
    assert error < 5e-6


@pytest.mark.parametrize(
    ("channels", "size", "dtype", "suits"),
    [
        (128, 3, torch.float32, True),
        (127, 3, torch.float32, False),
        (128, 7, torch.float32, False),
        (128, 5, torch.bfloat16, False),
    ],
)
def test_few_channels_other_kernels_and_16_bits_are_unfolded(channels, size, dtype, suits):
    weight = torch.zeros(channels, channels, size, size, dtype=dtype)
    assert winograd.suits(torch.zeros(1, channels, 4, 4, dtype=dtype), weight) is suits


def test_computes_in_16_bits_under_autocast():
    torch.manual_seed(0)
    convolution = MergedVocabulary(LAYOUT).convolution(4, 5, 5, True)
    images = torch.randn(1, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        result = convolution(images)
    assert result.dtype == torch.bfloat16
    result.float().sum().backward()
    assert convolution.weight.grad.dtype == torch.float32
    # 100 products, each rounded to 8 bits.
    torch.testing.assert_close(result.float(), convolution(images), rtol=0.05, atol=0.05)
