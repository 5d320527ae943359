"""Losses against straightforward formulations of the facts, and their behaviour at the edges."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from fasterseg.engine.losses import (
    OhemCrossEntropy,
    distillation_kl,
    head_loss,
    resize_labels,
    segmentation_losses,
    subsample_labels,
)
from fasterseg.networks import SegmentationLogits


def reference_ohem(
    logits: torch.Tensor, labels: torch.Tensor, threshold: float, min_kept: int, ignore_index: int
) -> torch.Tensor:
    """The published rule, pixel by pixel with a full sort."""
    probabilities = logits.softmax(1).permute(0, 2, 3, 1).reshape(-1, logits.shape[1])
    flat = labels.flatten()
    valid = flat != ignore_index
    of_label = probabilities[valid].gather(1, flat[valid][:, None])[:, 0]
    if len(of_label) > min_kept:
        limit = max(threshold, float(of_label.sort().values[min_kept - 1]))
        of_label = of_label[of_label <= limit]
    return -of_label.log().mean()


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize("scale", [0.1, 3.0, 30.0], ids=["all hard", "mixed", "nearly all easy"])
@pytest.mark.parametrize("ignored", [0.0, 0.3, 0.97], ids=["all labelled", "some ignored", "fewer than min_kept"])
def test_ohem_equals_the_published_rule(scale: float, ignored: float, fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (2, 16, 24), generator=generator)
    logits = torch.randn(2, 5, 16, 24, generator=generator)
    logits = (logits + 2 * functional.one_hot(labels, 5).permute(0, 3, 1, 2)) * scale
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    loss = OhemCrossEntropy(fused=fused)(logits.double(), labels)
    expected = reference_ohem(logits.double(), labels, 0.7, labels.numel() // 16, 255)
    assert float(loss) == pytest.approx(float(expected), rel=1e-4)


def test_ohem_keeps_only_the_hard_pixels() -> None:
    logits = torch.zeros(1, 2, 1, 32)
    logits[0, 0] = 6.0  # sure of class 0
    logits[0, 0, 0, :4] = 0.0  # undecided
    loss = OhemCrossEntropy()(logits, torch.zeros(1, 1, 32, dtype=torch.int64))
    assert float(loss) == pytest.approx(0.6931, abs=1e-3)


def test_ohem_keeps_min_kept_pixels_where_all_are_easy() -> None:
    probabilities = torch.linspace(0.75, 0.99, 64).double()
    logits = torch.stack([probabilities, 1 - probabilities]).log().reshape(1, 2, 8, 8)
    loss = OhemCrossEntropy()(logits, torch.zeros(1, 8, 8, dtype=torch.int64))
    assert loss.item() == pytest.approx(-probabilities[:4].log().mean().item(), rel=1e-5)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_full_ignore_batch_is_zero_with_a_gradient_path(fused: bool) -> None:
    logits = torch.randn(2, 4, 8, 8, requires_grad=True)
    loss = OhemCrossEntropy(ignore_index=255, fused=fused)(logits, torch.full((2, 8, 8), 255))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None and bool((logits.grad == 0).all())


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_nan_logits_reach_the_loss(fused: bool) -> None:
    logits = torch.randn(1, 3, 8, 8)
    logits[0, 0, 0, 0] = float("nan")
    assert torch.isnan(OhemCrossEntropy(fused=fused)(logits, torch.zeros(1, 8, 8, dtype=torch.int64)))


@pytest.mark.parametrize(("argument", "value"), [("threshold", 0.0), ("threshold", 1.5), ("min_kept_fraction", -0.1)])
def test_ohem_refuses_values_out_of_range(argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=argument.split("_")[0]):
        OhemCrossEntropy(**{argument: value})


def test_head_loss_resizes_to_the_labels() -> None:
    logits, labels = torch.randn(1, 3, 4, 6), torch.randint(0, 3, (1, 32, 48))
    resized = functional.interpolate(logits, (32, 48), mode="bilinear", align_corners=True)
    criterion = OhemCrossEntropy()
    torch.testing.assert_close(head_loss(criterion, logits, labels), criterion(resized, labels))


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_logits_in_half_precision_get_their_gradient_in_it(fused: bool) -> None:
    logits = torch.randn(1, 3, 4, 6, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = OhemCrossEntropy(fused=fused)(logits, torch.randint(0, 3, (1, 32, 48)))
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None and logits.grad.dtype == torch.bfloat16


def test_segmentation_losses_weigh_the_auxiliary_heads() -> None:
    labels = torch.randint(0, 3, (1, 16, 16))
    logits = SegmentationLogits(torch.randn(1, 3, 2, 2), (torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1)))
    total, heads = segmentation_losses(OhemCrossEntropy(), logits, labels, auxiliary_weight=0.2)
    assert list(heads) == ["main", "auxiliary_0", "auxiliary_1"]
    assert torch.allclose(total, heads["main"] + 0.2 * (heads["auxiliary_0"] + heads["auxiliary_1"]))


def test_subsampled_labels_lie_where_resized_logits_sample() -> None:
    labels = torch.arange(16 * 32).reshape(1, 16, 32)
    picked = subsample_labels(labels, 8)
    assert picked.tolist() == [[[0, 10, 21, 31], [480, 490, 501, 511]]]
    assert subsample_labels(labels, 1) is labels
    assert subsample_labels(labels[:, :15, :9], 4).shape == (1, 4, 3)


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_distillation_is_the_kl_from_the_teacher_averaged_over_elements(fused: bool) -> None:
    student, teacher = torch.randn(2, 4, 3, 5, requires_grad=True), torch.randn(2, 4, 3, 5, requires_grad=True)
    p, q = teacher.softmax(1), student.softmax(1)
    loss = distillation_kl(student, teacher, fused=fused)
    assert loss.item() == pytest.approx((p * (p / q).log()).mean().item(), rel=1e-5)
    loss.backward()
    assert teacher.grad is None and float(student.grad.abs().sum()) > 0
    assert distillation_kl(student, student, fused=fused).item() == pytest.approx(0, abs=1e-7)


def test_shrunk_labels_are_the_nearest_ones_and_no_new_ids_appear() -> None:
    labels = torch.tensor([0, 7, 255, 3]).repeat_interleave(16).reshape(1, 8, 8)
    small = resize_labels(labels, (3, 3))
    assert set(small.unique().tolist()) <= {0, 7, 255, 3} and small.shape == (1, 3, 3)
    assert torch.equal(small[0, [0, 0, 2, 2], [0, 2, 0, 2]], labels[0, [0, 0, 7, 7], [0, 7, 0, 7]])
    logits = torch.randn(1, 8, 3, 3)
    criterion = nn.CrossEntropyLoss(ignore_index=255)
    plain = OhemCrossEntropy(threshold=1.0, min_kept_fraction=0.0)
    expected = criterion(logits, small)
    torch.testing.assert_close(head_loss(criterion, logits, labels, shrink_labels=True), expected)
    # the baselines' loss: hard mining that keeps every labelled pixel
    torch.testing.assert_close(head_loss(plain, logits, labels, shrink_labels=True), expected)
