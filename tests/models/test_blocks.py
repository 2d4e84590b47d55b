import pytest
import torch

from cosmictagger.config.sections import NetworkConfig
from cosmictagger.models.blocks import Workshop
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.parameters import Layout

VOCABULARY = DenseVocabulary(Layout(nplanes=3, volumetric=False, shared=True))


def workshop(**options):
    return Workshop(VOCABULARY, NetworkConfig(**options))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_new_residual_block_is_the_identity(batch_norm):
    features = torch.rand(2, 4, 8, 8)
    block = workshop(residual=True, batch_norm=batch_norm).stack(1, 4)
    assert torch.equal(block(features), features)


def test_no_blocks_hand_the_features_on():
    features = torch.rand(2, 4, 8, 8)
    assert workshop().stack(0, 4)(features) is features


@pytest.mark.parametrize("kind", ["convolutional", "max_pooling"])
def test_downsampling_halves(kind):
    assert workshop(downsampling=kind).downsample(4, 6)(torch.rand(2, 4, 8, 12)).shape == (2, 6, 4, 6)


@pytest.mark.parametrize("kind", ["convolutional", "interpolation"])
def test_upsampling_doubles(kind):
    assert workshop(upsampling=kind).upsample(6, 4)(torch.rand(2, 6, 4, 6)).shape == (2, 4, 8, 12)


def test_interpolation_before_the_block_would_be_the_same():
    block = workshop(upsampling="interpolation").upsample(6, 4).double()
    features = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    block_last = block.norm(block.conv(VOCABULARY.unpool(features)))
    torch.testing.assert_close(block(features), block_last)


def test_unconnected_ignores_the_way_down():
    features, skipped = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8)
    assert workshop(connections="none").connection(4)(features, skipped) is features


def test_sum_leaves_its_arguments_alone():
    features, skipped = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8)
    expected = features + skipped
    assert torch.equal(workshop(connections="sum").connection(4)(features, skipped), expected)
    assert not torch.equal(features, expected)


def test_concatenation_returns_to_the_channels_of_the_level():
    features, skipped = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8)
    assert workshop(connections="concat").connection(4)(features, skipped).shape == (2, 4, 8, 8)
