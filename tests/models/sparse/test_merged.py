"""The convolutions of the deepest level against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from cosmictagger.models.parameters import Layout
from cosmictagger.models.sparse import unfolded, winograd
from cosmictagger.models.sparse.merged import MergedVocabulary, ProductConvolution, multiplied, product_of

LAYOUT = Layout(nplanes=3, volumetric=False, shared=True, merged=True)


def agrees_with_conv2d(convolve, images, weight, bias=None):
    """Compare results and all slopes."""
    parameters = [tensor for tensor in (images, weight, bias) if tensor is not None]
    expected, result = F.conv2d(images, weight, bias, padding=weight.shape[-1] // 2), convolve(images)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(result, expected)
    for got, wanted in zip(
        torch.autograd.grad(result, parameters, slope), torch.autograd.grad(expected, parameters, slope), strict=True
    ):
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("channels", [4, 128])
@pytest.mark.parametrize(("size", "shape"), [(3, (4, 7)), (5, (3, 2)), (7, (1, 1)), (3, (21, 16)), (3, (40, 30))])
def test_equals_conv2d(size, shape, channels, bias, layout):
    torch.manual_seed(0)
    convolution = MergedVocabulary(LAYOUT).convolution(channels, channels + 1, size, bias).double()
    assert isinstance(convolution, ProductConvolution)
    images = torch.randn(4, channels, *shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    agrees_with_conv2d(convolution, images, convolution.weight, convolution.bias)


@pytest.mark.parametrize("way", [unfolded, winograd])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 5), (31, 28)])
@pytest.mark.parametrize("shape", [(4, 7), (3, 2), (1, 1), (21, 16), (5, 8), (40, 30)])
def test_products_equal_conv2d(way, size, inputs, outputs, shape):
    torch.manual_seed(0)
    images = torch.randn(5, inputs, *shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(outputs, inputs, size, size, dtype=torch.float64, requires_grad=True)
    agrees_with_conv2d(lambda images: multiplied(images, weight, way), images, weight)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("shape", [(4, 7), (3, 2), (1, 1), (21, 16), (5, 8)])
def test_tiles_are_the_same_without_a_compiler(monkeypatch, size, shape, layout):
    images = torch.randn(3, 4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=layout)
    weight = torch.randn(5, 4, size, size, dtype=torch.float64)
    compiled = winograd.convolve((images,), weight)
    monkeypatch.setattr(winograd, "load_library", lambda: "there is no compiler")
    torch.testing.assert_close(compiled, winograd.convolve((images,), weight))


@pytest.mark.parametrize("size", [3, 5])
def test_fewer_products_lose_three_to_four_bits_of_float32(size):
    torch.manual_seed(0)
    images, weight = torch.randn(1, 256, 20, 32), torch.randn(256, 256, size, size)
    exact = F.conv2d(images.double(), weight.double(), padding=size // 2)
    error = (winograd.convolve((images,), weight) - exact).norm() / exact.norm()
    plain = (F.conv2d(images, weight, padding=size // 2) - exact).norm() / exact.norm()
    assert plain / 2 < error < 16 * plain  # 11 times was measured
    assert error < 5e-6  # 3.7e-6 was


@pytest.mark.parametrize(
    ("channels", "size", "dtype", "expected"),
    [
        (128, 3, torch.float32, winograd),
        (128, 5, torch.float64, winograd),
        (127, 3, torch.float32, None),
        (128, 7, torch.float32, None),
        (128, 5, torch.bfloat16, unfolded),
        (4, 3, torch.float16, unfolded),
    ],
)
def test_products_are_taken_where_they_are_faster(channels, size, dtype, expected):
    weight = torch.zeros(channels, channels, size, size, dtype=dtype)
    assert product_of(torch.zeros(1, channels, 4, 4, dtype=dtype), weight) is expected


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
