"""Losses of every stage: cross entropy over the hard pixels, and the distillation of a teacher's logits.

Logits have the stride of their head and are resized to the labels here; a network never upsamples for its loss. This
module gives both losses in plain form. By default a fused form with the same values runs instead
(`fasterseg.engine.fused_losses`).
"""

import math

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from fasterseg.engine.distributed import mean_over_processes
from fasterseg.engine.fused_losses import fused_kl, fused_ohem
from fasterseg.networks.network import SegmentationLogits
from fasterseg.networks.resizing import Size, map_size, resize_bilinear


class OhemCrossEntropy(nn.Module):
    """Cross entropy averaged over the hard pixels only (online hard example mining).

    A pixel is kept when the probability of its label is at most max(threshold, the min_kept-th smallest such
    probability), where min_kept is a fraction of all label pixels; with fewer labelled pixels than that, all are kept.

    Args:
        threshold: Probability up to which a pixel counts as hard.
        min_kept_fraction: Smallest fraction of the label pixels (ignored ones included) that is kept.
        ignore_index: Label of pixels that loss and metrics ignore.
        fabric: The processes that share a batch; None for a single process. Each divides by the mean number of kept
            pixels per process, so that the mean over the processes is the mean over all kept pixels. min_kept is a
            fraction of each process's own pixels.
        fused: Whether to compute the loss by `fasterseg.engine.fused_losses`: the same values in less time and memory,
            but without second derivatives. Under `torch.compile` the plain form always runs.

    Shape:
        logits (N, C, h, w) floating point and labels (N, H, W) int64 to a scalar; 0 with a gradient path where no pixel
        is labelled.

    Source: Shrivastava et al. 2016; constants of FasterSeg's released training.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.7,
        min_kept_fraction: float = 1 / 16,
        ignore_index: int = 255,
        fabric: Fabric | None = None,
        fused: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < threshold <= 1:
            raise ValueError(f"OHEM threshold is {threshold}, expected a probability in (0, 1]")
        if not 0 <= min_kept_fraction <= 1:
            raise ValueError(f"OHEM min_kept_fraction is {min_kept_fraction}, expected a fraction in [0, 1]")
        self.threshold = threshold
        self.min_kept_fraction = min_kept_fraction
        self.ignore_index = ignore_index
        self.fabric = fabric
        self.fused = fused

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean negative log likelihood of the hard pixels; logits of another size are resized to the labels."""
        if self.fused and not torch.compiler.is_compiling():
            return fused_ohem(logits, labels, self)
        with torch.autocast(logits.device.type, enabled=False):
            logits = resize_bilinear(logits.float(), map_size(labels.unsqueeze(1)))
            pixel_loss = functional.cross_entropy(logits, labels, ignore_index=self.ignore_index, reduction="none")
            hard = (pixel_loss >= self.least_loss(pixel_loss.detach())) & (labels != self.ignore_index)
            # a product instead of a selection, so that a NaN reaches the loss, where the loop reports it
            return (pixel_loss * hard).sum() / self.mean_count(hard)

    def least_loss(self, pixel_loss: torch.Tensor) -> torch.Tensor:
        """The smallest loss (a scalar) of a hard pixel, given all losses (N, H, W).

        Ignored pixels have loss 0. So if fewer than min_kept pixels are labelled, the min_kept-th largest loss is 0 and
        all labelled pixels are kept.
        """
        threshold = pixel_loss.new_tensor(-math.log(self.threshold))
        min_kept = int(pixel_loss.numel() * self.min_kept_fraction)
        if min_kept == 0:
            return threshold
        flat = pixel_loss.flatten()
        if flat.device.type == "cpu" and int(torch.count_nonzero(flat >= threshold)) >= min_kept:
            return threshold
        return torch.minimum(threshold, torch.kthvalue(flat, flat.numel() - min_kept + 1).values)

    def mean_count(self, hard: torch.Tensor) -> torch.Tensor:
        """Number of kept pixels, as the mean over the processes if there are several; 1 if none is kept."""
        count = hard.sum()
        if self.fabric is not None:
            count = mean_over_processes(count.double(), self.fabric).float()
        # the mean over W processes can be 1 / W, so only a count of 0 is replaced
        return count.where(count > 0, 1)


def subsample_labels(labels: torch.Tensor, stride: int) -> torch.Tensor:
    """Labels at a stride: the nearest label at each sampling point of a resize with aligned corners.

    Args:
        labels: (N, H, W) int64.
        stride: 1 returns them unchanged; 8 gives the labels of the stride-8 maps, which the search uses.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)) int64.
    """
    height, width = labels.shape[1:]
    return resize_labels(labels, (-(-height // stride), -(-width // stride)))


def resize_labels(labels: torch.Tensor, size: Size) -> torch.Tensor:
    """Labels at another size: the nearest label at each sampling point of a resize with aligned corners.

    Args:
        labels: (N, H, W) int64.
        size: (height, width) of the result.

    Returns:
        (N, *size) int64.
    """
    if tuple(labels.shape[1:]) == size:
        return labels
    rows, columns = (
        torch.linspace(0, before - 1, after, device=labels.device).round().long()
        for before, after in zip(labels.shape[1:], size, strict=True)
    )
    return labels[:, rows[:, None], columns]


def head_loss(
    criterion: nn.Module, logits: torch.Tensor, labels: torch.Tensor, *, shrink_labels: bool = False
) -> torch.Tensor:
    """One head's loss against labels of another size.

    Args:
        criterion: Takes (N, C, H, W) logits and (N, H, W) labels.
        logits: (N, C, h, w), resized to the labels, bilinear with aligned corners.
        labels: (N, H, W) int64 train ids and the ignore index.
        shrink_labels: Whether to resize the labels to the logits (nearest label) instead.

    Returns:
        The scalar loss.
    """
    if shrink_labels:
        labels = resize_labels(labels, map_size(logits))
    if not isinstance(criterion, OhemCrossEntropy):  # OhemCrossEntropy resizes by itself
        logits = resize_bilinear(logits, map_size(labels.unsqueeze(1)))
    loss: torch.Tensor = criterion(logits, labels)
    return loss


def segmentation_losses(
    criterion: nn.Module,
    logits: SegmentationLogits,
    labels: torch.Tensor,
    *,
    auxiliary_weight: float,
    shrink_labels: bool = False,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of the main head plus the weighted losses of the auxiliary ones.

    Args:
        criterion: See `head_loss`.
        logits: All heads of one forward pass.
        labels: (N, H, W) int64.
        auxiliary_weight: Weight of each auxiliary head.
        shrink_labels: See `head_loss`.

    Returns:
        The total, and the unweighted loss of each head by name: `main`, `auxiliary_0`, ...
    """
    heads = {"main": head_loss(criterion, logits.main, labels, shrink_labels=shrink_labels)}
    total = heads["main"]
    for index, auxiliary in enumerate(logits.auxiliary):
        heads[f"auxiliary_{index}"] = head_loss(criterion, auxiliary, labels, shrink_labels=shrink_labels)
        total = total + auxiliary_weight * heads[f"auxiliary_{index}"]
    return total, heads


def distillation_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor, *, fused: bool = True) -> torch.Tensor:
    """KL(teacher ‖ student) of the class distributions, averaged over all N·C·h·w elements.

    Args:
        student_logits: (N, C, h, w).
        teacher_logits: (N, C, h', w'), resized to the student's where they differ; no gradient flows into them.
        fused: See `OhemCrossEntropy`.

    Returns:
        The scalar loss.

    Source: FasterSeg, section 3.3.
    """
    if fused and not torch.compiler.is_compiling():
        return fused_kl(student_logits, teacher_logits)
    with torch.autocast(student_logits.device.type, enabled=False):
        teacher = resize_bilinear(teacher_logits.detach().float(), map_size(student_logits)).log_softmax(dim=1)
        student = student_logits.float().log_softmax(dim=1)
        return (teacher.exp() * (teacher - student)).mean()
