import pytest
import torch

from cosmictagger.models.parameters import Convolution, Expansion, Layout, Normalization

FLAT = Layout(nplanes=3, volumetric=False, shared=True)
OWN = Layout(nplanes=3, volumetric=False, shared=False)
VOLUMES = Layout(nplanes=3, volumetric=True, shared=True)


@pytest.mark.parametrize(
    ("layout", "weight", "bias"),
    [(FLAT, (5, 4, 3, 3), (5,)), (OWN, (15, 4, 3, 3), (15,)), (VOLUMES, (5, 4, 1, 3, 3), (5,))],
)
def test_shapes_of_a_convolution(layout, weight, bias):
    convolution = Convolution(layout, 4, 5, layout.kernel(3), bias=True)
    assert (convolution.weight.shape, convolution.bias.shape) == (weight, bias)


@pytest.mark.parametrize(
    ("layout", "weight", "bias"),
    [(FLAT, (4, 5, 2, 2), (5,)), (OWN, (12, 5, 2, 2), (15,)), (VOLUMES, (4, 5, 1, 2, 2), (5,))],
)
def test_shapes_of_an_expansion(layout, weight, bias):
    expansion = Expansion(layout, 4, 5, bias=True)
    assert (expansion.weight.shape, expansion.bias.shape) == (weight, bias)


def test_without_bias():
    assert Convolution(FLAT, 4, 5, (1, 1), bias=False).bias is None
    assert Expansion(FLAT, 4, 5, bias=False).bias is None


def test_shapes_of_a_normalization():
    assert Normalization(FLAT, 4).weight.shape == (4,)
    assert Normalization(OWN, 4).running_var.shape == (12,)


@pytest.mark.parametrize(("nplanes", "depth"), [(1, 1), (2, 3), (3, 3), (4, 5)])
def test_merged_kernels_are_odd_and_cover_the_planes(nplanes, depth):
    merged = Layout(nplanes=nplanes, volumetric=True, shared=True, merged=True)
    assert merged.kernel(5) == (depth, 5, 5)
    assert merged.point() == (1, 1, 1)


def test_merged_planes_have_one_set_of_weights():
    assert Layout(nplanes=3, volumetric=False, shared=False, merged=True).groups == 1


@pytest.mark.parametrize("layout", [FLAT, OWN, VOLUMES])
def test_initial_variance_is_that_of_kaiming(layout):
    torch.manual_seed(0)
    convolution = Convolution(layout, 64, 64, layout.kernel(3), bias=True)
    expansion = Expansion(layout, 64, 64, bias=True)
    # At least 16,384 draws: the relative error of their standard deviation is below 1 %.
    assert convolution.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)
    assert expansion.weight.std().item() == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert not convolution.bias.any()
