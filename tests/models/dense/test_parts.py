import dataclasses

import pytest
import torch

from cosmictagger.models.dense import parts
from cosmictagger.models.parameters import EPSILON, MOMENTUM, Layout

FLAT = Layout(nplanes=3, volumetric=False, shared=True)


def test_normalization_equals_torch_batch_norm():
    features = torch.randn(2, 4, 5, 5) * 3 + 1
    ours, theirs = parts.Normalization(FLAT, 4), torch.nn.BatchNorm2d(4, eps=EPSILON, momentum=MOMENTUM)
    torch.testing.assert_close(ours(features), theirs(features).relu())
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    torch.testing.assert_close(ours.eval()(features), theirs.eval()(features).relu())


@pytest.mark.parametrize(
    ("layout", "planes"),
    [(FLAT, 3), (dataclasses.replace(FLAT, merged=True), 1), (dataclasses.replace(FLAT, shared=False), 1)],
)
def test_normalization_by_image_takes_all_planes_of_each_image_together(layout, planes):
    channels = 4 * layout.groups
    features = torch.randn(2 * planes, channels, 5, 5) * torch.arange(1, 2 * planes + 1)[:, None, None, None] + 1
    images = features.view(2, planes, channels, 5, 5)
    variance, mean = torch.var_mean(images, dim=(1, 3, 4), correction=0, keepdim=True)
    expected = ((images - mean) / (variance + EPSILON).sqrt()).relu().view(features.shape)
    norm = parts.Normalization(layout, 4, "image")
    torch.testing.assert_close(norm(features), expected)
    torch.testing.assert_close(norm.eval()(features), expected)
    assert list(norm.buffers()) == []


@pytest.mark.parametrize("activation", [parts.Normalization(FLAT, 4).eval(), parts.Rectification()])
def test_the_shortcut_is_added_before_rectifying(activation):
    features, shortcut = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    expected = (features / (1 + EPSILON * (not isinstance(activation, parts.Rectification))) ** 0.5 + shortcut).relu()
    kept = shortcut.clone()
    torch.testing.assert_close(activation(features.clone(), shortcut), expected)
    assert torch.equal(shortcut, kept)


def test_an_expansion_puts_its_kernel_at_every_pixel():
    expansion = parts.Expansion(FLAT, 1, 1, bias=True)
    features = torch.tensor([[[[1.0, 2.0]]]])
    kernel = expansion.weight.detach()[0, 0]
    torch.testing.assert_close(expansion(features).detach()[0, 0], torch.cat((kernel, 2 * kernel), dim=1))
