import numpy as np
import pytest
import torch

import cosmictagger.training.loss as loss_module
from cosmictagger.config.sections import TrainingConfig
from cosmictagger.training.loss import IOU_SMOOTHING, LIGHT_WEIGHTS, balance_scheme, dense_loss, sparse_loss

SCHEMES = ("none", "light", "even", "focal", "iou")
FLOAT32 = 2e-6  # relative: sums of a few thousand float32 terms
BFLOAT16 = 2e-2  # relative: logits of 8 significant bits


@pytest.fixture
def batch():
    """Logits and labels of 4 images, 3 planes of 6 × 8 pixels; image 1 has no neutrino, its plane 2 is empty."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 3, 6, 8, generator=generator)
    label = torch.randint(0, 3, (4, 3, 6, 8), generator=generator).to(torch.uint8)
    label[1] = label[1].clamp(max=1)
    label[1, 2] = 0
    return logits, label


def reference(logits, label, scheme):
    """Compute the loss of one image [P, 3, H, W] by the definition, differentiable."""
    label = label.long()
    log_p = logits.log_softmax(dim=1).gather(1, label[:, None])[:, 0]
    if scheme == "none":
        return -log_p.mean()
    if scheme == "iou":
        ious = []
        for plane, kinds in zip(logits.softmax(dim=1), label, strict=True):
            for kind in (1, 2):
                right = plane[kind][kinds == kind].sum()
                union = plane[kind].sum() + (kinds == kind).sum() - right
                ious.append((right + IOU_SMOOTHING) / (union + IOU_SMOOTHING))
        return -log_p.mean() + 1 - torch.stack(ious).mean()
    if scheme == "light":
        weights = logits.new_tensor(LIGHT_WEIGHTS)[label]
        return -(weights * log_p).sum() / weights.sum()
    if scheme == "focal":
        return -((1 - log_p.exp()) ** 2 * log_p).mean()
    planes = zip(log_p, label, strict=True)
    means = [torch.stack([-values[kinds == c].mean() for c in kinds.unique()]).mean() for values, kinds in planes]
    return torch.stack(means).mean()


@pytest.fixture(params=[5, 1 << 15], ids=["many parts", "one part"])
def parts(request, monkeypatch):
    """Sizes of the parts in which the loss is computed."""
    monkeypatch.setattr(loss_module, "PIXELS_PER_THREAD", request.param)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_loss_and_gradient_are_those_of_the_definition(batch, scheme, dtype, layout, parts):
    logits, label = batch
    exact = logits.double().requires_grad_()
    expected = torch.stack([reference(*image, scheme) for image in zip(exact, label, strict=True)]).mean()
    expected.backward()
    folded = logits.flatten(0, 1).contiguous(memory_format=layout).requires_grad_()
    loss = dense_loss(folded.unflatten(0, (4, 3)), label.to(dtype), scheme)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=FLOAT32)
    torch.testing.assert_close(folded.grad.view_as(logits).double(), exact.grad, rtol=FLOAT32, atol=1e-8)


def test_a_second_backward_pass_is_refused(batch):
    loss = dense_loss(batch[0].requires_grad_(), batch[1], "none")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="compute the loss again"):
        loss.backward()


def test_a_small_gradient_survives_float16_under_a_loss_scale():
    # 10^6 pixels: each has a gradient of 1e-7 and less, where float16 ends at 6e-8.
    logits = torch.zeros(1, 1, 3, 1024, 1024, dtype=torch.float16, requires_grad=True)
    (dense_loss(logits, torch.zeros(1, 1, 1024, 1024, dtype=torch.uint8), "none") * 2**16).backward()
    expected = 2**16 / 2**20 * torch.tensor([1 / 3 - 1, 1 / 3, 1 / 3])
    torch.testing.assert_close(logits.grad[0, 0, :, 5, 7].float(), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ranks_and_micro_steps_give_the_gradient_of_one_batch(batch, scheme):
    logits, label = batch
    whole = logits.clone().requires_grad_()
    dense_loss(whole, label, scheme).backward()
    parts = logits.clone().requires_grad_()
    for start in (0, 2):
        (dense_loss(parts[start : start + 2], label[start : start + 2], scheme) / 2).backward()
    torch.testing.assert_close(parts.grad, whole.grad, rtol=FLOAT32, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_padding_anywhere_leaves_the_gradient_exact(batch, scheme):
    logits, label = batch
    whole = logits[:3].clone().requires_grad_()
    dense_loss(whole, label[:3], scheme).backward()
    parts = logits.clone().requires_grad_()
    ranks, valid_images = 2, 3
    for start in (0, 2):
        valid = torch.tensor([True, start == 0])
        part = slice(start, start + 2)
        loss = dense_loss(parts[part], label[part], scheme, valid=valid, normalizer=valid_images / ranks)
        (loss / ranks).backward()
    torch.testing.assert_close(parts.grad[:3], whole.grad, rtol=FLOAT32, atol=1e-9)
    assert not parts.grad[3].any()


def test_by_default_the_valid_images_are_averaged(batch):
    logits, label = batch
    valid = torch.tensor([True, False, True, False])
    assert dense_loss(logits, label, "light", valid=valid).item() == pytest.approx(
        dense_loss(logits[::2], label[::2], "light").item(), rel=FLOAT32
    )
    assert dense_loss(logits, label, "light", valid=torch.zeros(4, dtype=torch.bool)).item() == 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sparse_equals_dense_where_every_pixel_is_active(batch, scheme):
    logits, label = batch
    dense, sparse = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    valid = torch.tensor([True, True, False, True])
    expected = dense_loss(dense, label, scheme, valid=valid)
    expected.backward()
    sites = sparse.permute(0, 1, 3, 4, 2).reshape(-1, 3)
    image_plane = torch.arange(12, dtype=torch.int32).repeat_interleave(48)
    loss = sparse_loss(sites, label.flatten(), image_plane, 4, 3, scheme, valid=valid)
    loss.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=FLOAT32)
    torch.testing.assert_close(sparse.grad, dense.grad, rtol=FLOAT32, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_image_without_active_pixels_counts_as_an_image_of_loss_0(scheme):
    logits = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    label, image_plane = torch.tensor([1, 0], dtype=torch.uint8), torch.tensor([0, 2])
    loss = sparse_loss(logits, label, image_plane, 2, 3, scheme)
    focal = (1 - 1 / 3) ** 2 if scheme == "focal" else 1.0
    expected = focal * np.log(3)
    if scheme == "iou":
        # A third of a pixel claimed where there is one, and three times where there is none; two classes of three planes.
        expected += 1 - ((10 + 1 / 3) / 11 + 3 * 10 / (10 + 1 / 3) + 2) / 6
    assert loss.item() == pytest.approx(expected / 2, rel=FLOAT32)
    empty = sparse_loss(logits[:0], label[:0], image_plane[:0], 2, 3, scheme)
    empty.backward()
    assert empty.item() == 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_bfloat16_logits_have_a_float32_loss_and_a_bfloat16_gradient(batch, scheme, layout):
    logits, label = batch
    folded = logits.flatten(0, 1).contiguous(memory_format=layout).bfloat16().requires_grad_()
    loss = dense_loss(folded.unflatten(0, (4, 3)), label, scheme)
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(dense_loss(logits, label, scheme).item(), rel=BFLOAT16)
    assert folded.grad.dtype == torch.bfloat16
    assert torch.isfinite(folded.grad).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_certain_and_wrong_stays_finite(scheme):
    logits = torch.tensor([1e4, -1e4, 0.0]).view(1, 1, 3, 1).requires_grad_()
    for label in range(3):
        loss = dense_loss(logits, torch.full((1, 1, 1), label), scheme)
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()


def test_balance_off_means_no_weights():
    assert balance_scheme(TrainingConfig()) == "light"
    assert balance_scheme(TrainingConfig(balance_loss=False)) == "none"
    assert balance_scheme(TrainingConfig(loss_balance_scheme="even")) == "even"
