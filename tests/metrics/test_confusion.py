import pytest
import torch

from cosmictagger.metrics.confusion import confusion, sparse_confusion, tag


def by_hand(prediction, label):
    """Count pixel by pixel."""
    images, planes = label.shape[:2]
    counts = torch.zeros(images, planes, 3, 3, dtype=torch.int64)
    for image in range(images):
        for plane in range(planes):
            pairs = zip(
                label[image, plane].flatten().tolist(), prediction[image, plane].flatten().tolist(), strict=True
            )
            for truth, claimed in pairs:
                counts[image, plane, truth, claimed] += 1
    return counts


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_counts_every_pixel_once_by_truth_and_prediction(dtype):
    generator = torch.Generator().manual_seed(0)
    label, prediction = (torch.randint(0, 3, (2, 3, 5, 7), generator=generator) for _ in range(2))
    counts = confusion(prediction.to(dtype), label.to(dtype))
    assert counts.dtype == torch.int64
    assert torch.equal(counts, by_hand(prediction, label))


def test_single_pixel():
    counts = confusion(torch.tensor([[[1]]]), torch.tensor([[[2]]], dtype=torch.uint8))
    assert counts.tolist() == [[[[0, 0, 0], [0, 0, 0], [0, 1, 0]]]]


def test_sparse_counts_equal_dense_counts_with_absent_pixels_as_background():
    generator = torch.Generator().manual_seed(1)
    images, planes, pixels = 2, 3, 40
    active = torch.rand(images, planes, pixels, generator=generator) < 0.3
    active[1, 2] = False  # an empty plane
    label, prediction = (torch.randint(0, 3, active.shape, generator=generator) * active for _ in range(2))
    image_plane = (torch.arange(images * planes).view(images, planes, 1).expand_as(active))[active]
    order = torch.randperm(len(image_plane), generator=generator)
    sparse = sparse_confusion(
        prediction[active][order],
        label[active][order].to(torch.uint8),
        image_plane[order].to(torch.int32),
        images,
        planes,
        pixels,
    )
    assert torch.equal(sparse, confusion(prediction, label))
    assert sparse[1, 2].tolist() == [[pixels, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_no_sites_at_all():
    none = torch.zeros(0, dtype=torch.int64)
    counts = sparse_confusion(none, none, none, 1, 2, 6)
    assert counts[:, :, 0, 0].tolist() == [[6, 6]]
    assert counts.sum() == 12


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_tag_is_argmax_and_the_lower_class_wins_a_tie(dtype, layout):
    logits = torch.randint(-2, 3, (2, 3, 9, 11), generator=torch.Generator().manual_seed(2))
    logits = logits.to(dtype).contiguous(memory_format=layout)
    tagged = tag(logits)
    assert tagged.dtype == torch.uint8
    highest = logits.float() == logits.float().amax(dim=1, keepdim=True)
    assert torch.equal(tagged.long(), highest.int().argmax(dim=1))
    assert tag(torch.zeros(1, 3)).tolist() == [0]
    assert tag(torch.tensor([[0.0, 1.0, 1.0]])).tolist() == [1]
