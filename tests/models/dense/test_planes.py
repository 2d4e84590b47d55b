import pytest
import torch

from cosmictagger.models.dense import planes

FORMATS = {True: torch.channels_last, False: torch.contiguous_format}


@pytest.mark.parametrize("channels_last", [True, False])
def test_side_by_side_and_back(channels_last):
    folded = torch.randn(6, 4, 5, 7).contiguous(memory_format=FORMATS[channels_last])
    merged = planes.side_by_side(folded, 3, channels_last)
    assert torch.equal(merged, folded.reshape(2, 12, 5, 7))
    assert merged.is_contiguous(memory_format=FORMATS[channels_last])
    back = planes.fold(merged, 3, channels_last)
    assert torch.equal(back, folded)
    assert back.is_contiguous(memory_format=FORMATS[channels_last])


@pytest.mark.parametrize(("nplanes", "depth"), [(1, 1), (2, 3), (3, 3), (4, 5), (5, 5)])
def test_a_banded_kernel_convolves_across_planes(nplanes, depth):
    kernel = torch.randn(2, 3, depth, 3, 3, dtype=torch.float64)
    volumes = torch.randn(2, 3, nplanes, 6, 5, dtype=torch.float64)
    expected = torch.nn.functional.conv3d(volumes, kernel, padding=(depth // 2, 1, 1))
    merged = volumes.transpose(1, 2).flatten(1, 2)
    mixed = torch.nn.functional.conv2d(merged, planes.banded(kernel, nplanes), padding=1)
    torch.testing.assert_close(mixed.reshape(2, nplanes, 2, 6, 5).transpose(1, 2), expected)
