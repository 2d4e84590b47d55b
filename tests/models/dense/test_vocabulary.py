import pytest
import torch

from cosmictagger.models.dense import parts
from cosmictagger.models.dense.vocabulary import DenseVocabulary
from cosmictagger.models.parameters import Layout

from ..conftest import random_images

LAYOUTS = {
    "shared": Layout(nplanes=3, volumetric=False, shared=True),
    "unshared": Layout(nplanes=3, volumetric=False, shared=False),
    "3D": Layout(nplanes=3, volumetric=True, shared=True),
}
OPTIONS = {
    "shared": {"bottleneck_size": 3},
    "unshared": {"share_weights": False},
    "3D": {"conv_mode": "3D"},
}


@pytest.fixture(params=LAYOUTS)
def vocabulary(request):
    return DenseVocabulary(LAYOUTS[request.param])


def test_planes_and_images_come_out_in_their_order(vocabulary):
    images = random_images()
    logits = vocabulary.leave(vocabulary.enter(images))
    assert torch.equal(logits, images[:, :, None])


def test_split_undoes_merge(vocabulary):
    features = vocabulary.enter(random_images())
    features = vocabulary.concatenate(features, 2 * features)
    assert torch.equal(vocabulary.split(vocabulary.merge(features), features), features)


@pytest.mark.parametrize("kind", ["shared", "unshared"])
def test_merged_channels_are_plane_major(kind):
    vocabulary = DenseVocabulary(LAYOUTS[kind])
    images = random_images()
    features = vocabulary.enter(images)
    merged = vocabulary.merge(vocabulary.concatenate(features, -features))
    assert merged.shape[1] == 2 * vocabulary.merged_channels
    assert torch.equal(merged, torch.stack((images, -images), dim=2).flatten(1, 2))


def test_what_is_largest_at_a_tick_comes_plane_major_and_is_added_to_all_its_wires(vocabulary):
    images = random_images()
    features = vocabulary.enter(images)
    features = vocabulary.concatenate(features, -features)
    largest = vocabulary.tick_maximum(features)
    assert torch.equal(largest, torch.stack((images.amax(3), (-images).amax(3)), dim=2).flatten(1, 2))
    added = vocabulary.leave(vocabulary.add_to_ticks(features, largest))
    rows = largest.view(2, 3, 2, 16, 1)
    assert torch.equal(added, torch.stack((images, -images), dim=2) + rows)


def test_merged_3d_convolution_equals_a_convolution_of_volumes():
    vocabulary = DenseVocabulary(LAYOUTS["3D"])
    mixing = vocabulary.merged.convolution(1, 2, 3, bias=True).double()
    images = random_images()
    volumes = torch.nn.functional.conv3d(images[:, None], mixing.weight, mixing.bias, padding=1)
    features = mixing(vocabulary.merge(vocabulary.enter(images)))
    torch.testing.assert_close(features.reshape(2, 3, 2, 16, 16), volumes.transpose(1, 2))


def test_pooling_and_unpooling(vocabulary):
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    pooled = vocabulary.pool(features)
    assert pooled.flatten().tolist() == [5, 7, 13, 15]
    assert vocabulary.unpool(pooled)[0, 0, :2].tolist() == [[5, 5, 7, 7], [5, 5, 7, 7]]


@pytest.mark.parametrize("connections", ["sum", "concat"])
@pytest.mark.parametrize(
    "sampling", [("convolutional", "convolutional"), ("max_pooling", "interpolation")], ids="-".join
)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_channels_last_is_kept_through_the_network(small_network, options, sampling, connections):
    network = small_network(connections=connections, downsampling=sampling[0], upsampling=sampling[1], **options)
    strays = []

    def check(name):
        def hook(module, arguments, output):
            features = output.dim() == 4 and output.shape[1] > 1
            if features and not output.is_contiguous(memory_format=torch.channels_last):
                strays.append(name)

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(check(name))
    network(random_images())
    assert strays == []


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_memory_format_does_not_change_the_result(small_network, options):
    images = random_images()
    last = small_network(data_format="channels_last", **options)(images)
    first = small_network(data_format="channels_first", **options)(images)
    # fp64; only the order of summation differs.
    torch.testing.assert_close(last, first, rtol=1e-9, atol=1e-10)


def test_images_of_another_memory_layout(small_network):
    network = small_network().eval()
    images = random_images()
    strided = images.permute(2, 3, 0, 1).contiguous().permute(2, 3, 0, 1)
    torch.testing.assert_close(network(strided), network(images))


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_kernels_are_stored_in_the_memory_format(small_network, options):
    kernels = [weight for weight in small_network(**options).parameters() if weight.dim() > 1]
    assert all(
        parts.flat(weight).is_contiguous(memory_format=torch.channels_last) for weight in kernels if fits(weight)
    )
    plain = small_network(data_format="channels_first", **options).parameters()
    assert all(weight.is_contiguous() for weight in plain)


def fits(weight):
    """Kernels across planes are rewritten at each step instead."""
    return weight.dim() == 4 or weight.shape[2] == 1
