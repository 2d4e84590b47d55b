"""The unfolded convolution of the deepest level against PyTorch's own."""

import pytest
import torch
from torch.nn import functional as F

from cosmictagger.models.parameters import Layout
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
