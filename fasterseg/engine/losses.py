"""Losses of every stage: cross entropy over the hard pixels, and the distillation of a teacher's logits.

Logits come in at their own stride and are resized to the labels here; a network never upsamples for its loss.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.outputs import SegmentationLogits
from fasterseg.networks.resizing import resize_bilinear


class OhemCrossEntropy(nn.Module):
    """Cross entropy averaged over the hard pixels only (online hard example mining).

    A pixel is kept when the probability of its label is at most max(threshold, the min_kept-th smallest such
    probability), where min_kept is a fraction of all label pixels; with fewer labelled pixels than that, all are kept.

    Args:
        threshold: Probability up to which a pixel counts as hard.
        min_kept_fraction: Part of the label pixels (ignored ones included) that is kept at least.
        ignore_index: Label of pixels that count nowhere.

    Shape:
        logits (N, C, H, W) floating point and labels (N, H, W) int64 to a scalar; 0 with a gradient path where no pixel
        is labelled.

    Source: Shrivastava et al. 2016; constants of FasterSeg's released training.
    """

    def __init__(self, *, threshold: float = 0.7, min_kept_fraction: float = 1 / 16, ignore_index: int = 255) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"OHEM threshold is {threshold}, expected a probability in (0, 1]")
        if not 0 <= min_kept_fraction <= 1:
            raise ValueError(f"OHEM min_kept_fraction is {min_kept_fraction}, expected a fraction in [0, 1]")
        self.threshold = threshold
        self.min_kept_fraction = min_kept_fraction
        self.ignore_index = ignore_index

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean negative log likelihood of the hard pixels."""
        pixel_loss = functional.cross_entropy(logits.float(), labels, ignore_index=self.ignore_index, reduction="none")
        hard = (pixel_loss.detach() >= self._least_loss(pixel_loss.detach())) & (labels != self.ignore_index)
        # a product, not a selection: a NaN must reach the sum, where the loop finds it
        return (pixel_loss * hard).sum() / hard.sum().clamp(min=1)

    def _least_loss(self, pixel_loss: torch.Tensor) -> torch.Tensor:
        """The loss from which on a pixel is hard.

        Ignored pixels have loss 0, so when fewer pixels than min_kept are labelled, the min_kept-th largest loss is 0
        and all of them are kept without a case of their own.
        """
        threshold = pixel_loss.new_tensor(-math.log(self.threshold))
        min_kept = int(pixel_loss.numel() * self.min_kept_fraction)
        if min_kept == 0:
            return threshold
        flat = pixel_loss.flatten()
        if flat.device.type == "cpu" and int(torch.count_nonzero(flat >= threshold)) >= min_kept:
            return threshold
        return torch.minimum(threshold, torch.kthvalue(flat, flat.numel() - min_kept + 1).values)


def subsample_labels(labels: torch.Tensor, stride: int) -> torch.Tensor:
    """Labels at a stride, each the one that lies nearest where resized logits sample (aligned corners).

    Args:
        labels: (N, H, W) int64.
        stride: 1 returns them as they are; 8 gives the labels of the stride-8 maps, as the search uses them.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)) int64.
    """
    if stride == 1:
        return labels
    rows, columns = (
        torch.linspace(0, size - 1, -(-size // stride), device=labels.device).round().long()
        for size in labels.shape[1:]
    )
    return labels[:, rows[:, None], columns]


def head_loss(criterion: nn.Module, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One head's loss against labels of another size.

    Args:
        criterion: Takes (N, C, H, W) logits and (N, H, W) labels.
        logits: (N, C, h, w), resized to the labels, bilinear with aligned corners.
        labels: (N, H, W) int64 train ids and the ignore index.

    Returns:
        The scalar loss.
    """
    loss: torch.Tensor = criterion(resize_bilinear(logits, (int(labels.shape[1]), int(labels.shape[2]))), labels)
    return loss


def segmentation_losses(
    criterion: nn.Module, logits: SegmentationLogits, labels: torch.Tensor, *, auxiliary_weight: float
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the main head plus the weighted losses of the auxiliary ones.

    Args:
        criterion: See `head_loss`.
        logits: All heads of one forward pass.
        labels: (N, H, W) int64.
        auxiliary_weight: Weight of each auxiliary head.

    Returns:
        The total, and the unweighted loss of each head by name: `main`, `auxiliary_0`, ...
    """
    heads = {"main": head_loss(criterion, logits.main, labels)}
    total = heads["main"]
    for index, auxiliary in enumerate(logits.auxiliary):
        heads[f"auxiliary_{index}"] = head_loss(criterion, auxiliary, labels)
        total = total + auxiliary_weight * heads[f"auxiliary_{index}"]
    return total, heads


def distillation_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) of the class distributions, averaged over all N·C·h·w elements.

    Args:
        student_logits: (N, C, h, w).
        teacher_logits: (N, C, h', w'), resized to the student's where they differ; no gradient flows into them.

    Returns:
        The scalar loss.

    Source: FasterSeg, section 3.3.
    """
    size = (int(student_logits.shape[2]), int(student_logits.shape[3]))
    teacher = resize_bilinear(teacher_logits.detach().float(), size)
    elements = functional.kl_div(
        functional.log_softmax(student_logits.float(), dim=1),
        functional.log_softmax(teacher, dim=1),
        reduction="none",
        log_target=True,
    )
    return elements.mean()
