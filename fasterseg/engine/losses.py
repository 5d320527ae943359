"""Losses of every stage: cross entropy over the hard pixels, and the distillation of a teacher's logits.

Logits come in at their own stride and are resized to the labels here; a network never upsamples for its loss. Both
losses go through the rows in bands (see `fasterseg.engine.rowbands`) and find their gradient on the way.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from fasterseg.engine.distributed import mean_over_processes
from fasterseg.engine.rowbands import RowBands
from fasterseg.networks.network import SegmentationLogits
from fasterseg.networks.resizing import Size, map_size, resize_bilinear


class OhemCrossEntropy(nn.Module):
    """Cross entropy averaged over the hard pixels only (online hard example mining).

    A pixel is kept when the probability of its label is at most max(threshold, the min_kept-th smallest such
    probability), where min_kept is a fraction of all label pixels; with fewer labelled pixels than that, all are kept.

    Args:
        threshold: Probability up to which a pixel counts as hard.
        min_kept_fraction: Part of the label pixels (ignored ones included) that is kept at least.
        ignore_index: Label of pixels that count nowhere.
        fabric: The processes that share a batch, where there are several. Each averages over the mean number of pixels
            that a process keeps, so that the mean over the processes is the mean over all kept pixels; min_kept stays
            a fraction of each process's own.

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

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean negative log likelihood of the hard pixels; logits of another size are resized to the labels."""
        loss: torch.Tensor = _HardPixels.apply(logits, labels, self)  # type: ignore[no-untyped-call]
        return loss

    def loss_and_gradient(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and its gradient (N, C, h, w) in the logits.

        One log-softmax gives both. Which pixels are hard is known after the last band only; bands count on the
        threshold alone and are gone through again where that kept too few.
        """
        bands = RowBands(logits, map_size(labels.unsqueeze(1)))
        threshold = torch.tensor(-math.log(self.threshold), device=logits.device)
        pixel_loss = self._pixel_losses(bands, labels, self._least_loss if bands.is_whole else lambda _: threshold)
        least = self._least_loss(pixel_loss)
        if not bands.is_whole and bool(least < threshold):
            bands.forget()
            self._pixel_losses(bands, labels, lambda _: least)
        hard = (pixel_loss >= least) & (labels != self.ignore_index)
        count = hard.sum()
        if self.fabric is not None:
            count = mean_over_processes(count.double(), self.fabric).float()
        # where no process keeps a pixel it is 0, and with one in W processes 1 / W
        count = count.where(count > 0, 1)
        # a product, not a selection: a NaN must reach the sum, where the loop finds it
        return (pixel_loss * hard).sum() / count, bands.gradient(1 / count)

    def _pixel_losses(
        self, bands: RowBands, labels: torch.Tensor, least: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """Each pixel's loss, 0 where it is ignored; the bands get the gradient of the sum over all from `least` on."""
        pixel_loss = torch.empty(labels.shape, device=labels.device)
        for rows, logits in bands:
            labelled = labels[:, rows] != self.ignore_index
            target = labels[:, rows].where(labelled, 0).unsqueeze(1)
            log_probability = logits.log_softmax(dim=1)
            loss = (-log_probability.gather(1, target).squeeze(1)).where(labelled, 0)
            pixel_loss[:, rows] = loss
            hard = ((loss >= least(loss)) & labelled).unsqueeze(1)
            gradient = log_probability.exp_()
            gradient.scatter_(1, target, gradient.gather(1, target) - 1)
            bands.add_gradient(rows, gradient.mul_(hard))
        return pixel_loss

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


class _HardPixels(torch.autograd.Function):
    """The node of `OhemCrossEntropy`."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, criterion: OhemCrossEntropy) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            loss, gradient = criterion.loss_and_gradient(logits, labels)
        ctx.save_for_backward(gradient.to(logits.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None


def subsample_labels(labels: torch.Tensor, stride: int) -> torch.Tensor:
    """Labels at a stride, each the one that lies nearest where resized logits sample (aligned corners).

    Args:
        labels: (N, H, W) int64.
        stride: 1 returns them as they are; 8 gives the labels of the stride-8 maps, as the search uses them.

    Returns:
        (N, ceil(H / stride), ceil(W / stride)) int64.
    """
    height, width = labels.shape[1:]
    return resize_labels(labels, (-(-height // stride), -(-width // stride)))


def resize_labels(labels: torch.Tensor, size: Size) -> torch.Tensor:
    """Labels at another size, each the one that lies nearest where resized logits sample (aligned corners).

    Args:
        labels: (N, H, W) int64.
        size: (height, width) of the result.
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
        shrink_labels: Whether the nearest labels are compared with the logits as they are instead.

    Returns:
        The scalar loss.
    """
    if shrink_labels:
        labels = resize_labels(labels, map_size(logits))
    if not isinstance(criterion, OhemCrossEntropy):  # which resizes without holding the result
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


def distillation_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student) of the class distributions, averaged over all N·C·h·w elements.

    Args:
        student_logits: (N, C, h, w).
        teacher_logits: (N, C, h', w'), resized to the student's where they differ; no gradient flows into them.

    Returns:
        The scalar loss.

    Source: FasterSeg, section 3.3.
    """
    loss: torch.Tensor = _Distillation.apply(student_logits, teacher_logits)  # type: ignore[no-untyped-call]
    return loss


class _Distillation(torch.autograd.Function):
    """The node of `distillation_kl`; one log-softmax of each side gives the value and the gradient."""

    @staticmethod
    def forward(ctx: Any, student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
        size = map_size(student_logits)
        total = torch.zeros((), dtype=torch.float64, device=student_logits.device)
        with torch.autocast(student_logits.device.type, enabled=False):
            student, teacher = RowBands(student_logits, size), RowBands(teacher_logits, size)
            for (rows, ours), (_, theirs) in zip(student, teacher, strict=True):
                log_ours, log_theirs = ours.log_softmax(dim=1), theirs.log_softmax(dim=1)
                probability = log_theirs.exp()
                total += (probability * log_theirs.sub_(log_ours)).sum()
                student.add_gradient(rows, log_ours.exp_().sub_(probability))
            gradient = student.gradient(torch.tensor(1 / student_logits.numel(), device=student_logits.device))
        ctx.save_for_backward(gradient.to(student_logits.dtype))
        return (total / student_logits.numel()).float()

    @staticmethod
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None
