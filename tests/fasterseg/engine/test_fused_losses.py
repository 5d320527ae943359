"""The fused losses against the plain ones: values and gradients, also where the rows take several bands."""

import pytest
import torch
from torch.nn import functional

from fasterseg.engine.losses import OhemCrossEntropy, distillation_kl, head_loss


@pytest.mark.parametrize("stride", [1, 8, 32])
@pytest.mark.parametrize("sure", [0.0, 30.0], ids=["hard", "easy"])
def test_ohem_and_its_gradient_equal_the_plain_form(stride: int, sure: float) -> None:
    """At a size that takes several bands of rows; easy pixels need the bands a second time.

    The threshold lies between two pixels, far enough from both that no rounding decides which ones are hard.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 19, (2, 256 // 32, 512 // 32), generator=generator)
    labels = coarse.repeat_interleave(32, 1).repeat_interleave(32, 2)
    labels[:, :24] = 255
    height, width = 256 // stride, 512 // stride
    likely = functional.one_hot(coarse, 19).permute(0, 3, 1, 2).float()
    logits = torch.randn(2, 19, height, width, generator=generator)
    logits = (logits + sure * functional.interpolate(likely, (height, width))).requires_grad_()
    gradients, losses = [], []
    threshold = threshold_in_a_gap(logits.detach(), labels)
    for fused in (True, False):
        loss = head_loss(OhemCrossEntropy(threshold=threshold, fused=fused), logits, labels)
        assert ("HardPixels" in loss.grad_fn.name()) == fused
        (gradient,) = torch.autograd.grad(3 * loss, logits)
        losses.append(loss.detach())
        gradients.append(gradient)
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-4 * float(gradients[1].abs().max()))


def threshold_in_a_gap(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The middle of the widest gap between 0.6 and 0.8 among the probabilities of the pixels' labels."""
    resized = functional.interpolate(logits.double(), labels.shape[1:], mode="bilinear", align_corners=True)
    labelled = labels != 255
    of_label = resized.softmax(1).gather(1, labels.where(labelled, 0).unsqueeze(1)).squeeze(1)[labelled]
    near = of_label[(of_label > 0.6) & (of_label < 0.8)].sort().values
    near = torch.cat([near.new_tensor([0.6]), near, near.new_tensor([0.8])])
    widest = int(near.diff().argmax())
    return float(near[widest : widest + 2].mean())


def test_distillation_and_its_gradient_equal_the_plain_form() -> None:
    student = (3 * torch.randn(2, 19, 128, 256)).requires_grad_()
    teacher = 3 * torch.randn(2, 19, 64, 128)
    fused, plain = (distillation_kl(student, teacher, fused=fused) for fused in (True, False))
    torch.testing.assert_close(fused, plain)
    pairs = zip(torch.autograd.grad(fused, student), torch.autograd.grad(plain, student), strict=True)
    for first, second in pairs:
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-9)


def test_a_gradient_of_the_gradient_is_refused_and_the_plain_form_has_it() -> None:
    logits, labels = torch.randn(1, 3, 8, 8, requires_grad=True), torch.randint(0, 3, (1, 8, 8))
    (gradient,) = torch.autograd.grad(OhemCrossEntropy()(logits, labels), logits, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.square().sum().backward()
    (gradient,) = torch.autograd.grad(OhemCrossEntropy(fused=False)(logits, labels), logits, create_graph=True)
    gradient.square().sum().backward()
    assert logits.grad is not None and logits.grad.abs().sum() > 0


def test_compiled_losses_run_in_their_plain_form() -> None:
    logits = torch.randn(1, 3, 4, 6, requires_grad=True)
    teacher, labels = torch.randn(1, 3, 4, 6), torch.randint(0, 3, (1, 8, 12))
    criterion = OhemCrossEntropy()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return criterion(logits, labels) + distillation_kl(logits, teacher)

    compiled = torch.compile(loss, backend="eager")(logits)
    torch.testing.assert_close(compiled, loss(logits))
    assert "Backward0" in compiled.grad_fn.name()
    of_compiled, of_eager = torch.autograd.grad(compiled, logits)[0], torch.autograd.grad(loss(logits), logits)[0]
    torch.testing.assert_close(of_compiled, of_eager, rtol=1e-4, atol=1e-7)
