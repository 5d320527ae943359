"""The fused form of the losses in `fasterseg.engine.losses`: the same values, in less time and memory.

Resizing logits from stride 8 to the labels makes them 64 times as large. On a CPU these losses resize a band of rows at
a time. A band stays in the processor's cache, and the full-size logits are never in memory at once. On a GPU there is
one band. The gradient is computed together with the loss from one log-softmax, and is also propagated back through the
resize band by band. This module is not needed to understand the losses.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from fasterseg.networks.resizing import Size, map_size

# largest band on a CPU: 2 MiB of float32, about a core's second-level cache
_BAND_ELEMENTS = 2**19


class HardPixelRule(Protocol):
    """Which pixels count; `fasterseg.engine.losses.OhemCrossEntropy`."""

    threshold: float
    ignore_index: int

    def least_loss(self, pixel_loss: torch.Tensor) -> torch.Tensor:
        """The smallest loss (a scalar) of a hard pixel, given all losses (N, H, W)."""
        ...

    def mean_count(self, hard: torch.Tensor) -> torch.Tensor:
        """The divisor (a scalar) of the summed losses, given the mask (N, H, W) of hard pixels."""
        ...


def fused_ohem(logits: torch.Tensor, labels: torch.Tensor, rule: HardPixelRule) -> torch.Tensor:
    """The mean cross entropy of the hard pixels; see `OhemCrossEntropy`.

    Args:
        logits: (N, C, h, w) floating point.
        labels: (N, H, W) int64.
        rule: Which pixels are hard.
    """
    loss: torch.Tensor = _HardPixels.apply(logits, labels, rule)  # type: ignore[no-untyped-call]
    return loss


def fused_kl(student_logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ student), averaged over all elements; see `distillation_kl`."""
    loss: torch.Tensor = _Distillation.apply(student_logits, teacher_logits)  # type: ignore[no-untyped-call]
    return loss


class _HardPixels(torch.autograd.Function):
    """The autograd function of `fused_ohem`."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, labels: torch.Tensor, rule: HardPixelRule) -> torch.Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            loss, gradient = _loss_and_gradient(logits, labels, rule)
        ctx.save_for_backward(gradient.to(logits.dtype))
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None, None


class _Distillation(torch.autograd.Function):
    """The autograd function of `fused_kl`; value and gradient come from one log-softmax of each side."""

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
    @once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer, None


def _loss_and_gradient(
    logits: torch.Tensor, labels: torch.Tensor, rule: HardPixelRule
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss, and its gradient (N, C, h, w) with respect to the logits.

    Which pixels are hard is known only after the last band. The first pass over the bands uses the threshold alone. If
    that keeps too few pixels, a second pass uses the final bound.
    """
    bands = RowBands(logits, map_size(labels.unsqueeze(1)))
    threshold = torch.tensor(-math.log(rule.threshold), device=logits.device)
    first_guess = rule.least_loss if bands.is_whole else lambda _: threshold
    pixel_loss = _pixel_losses(bands, labels, first_guess, ignore_index=rule.ignore_index)
    least = rule.least_loss(pixel_loss)
    if not bands.is_whole and bool(least < threshold):
        bands.clear()
        _pixel_losses(bands, labels, lambda _: least, ignore_index=rule.ignore_index)
    hard = (pixel_loss >= least) & (labels != rule.ignore_index)
    count = rule.mean_count(hard)
    # a product instead of a selection, so that a NaN reaches the loss, where the loop reports it
    return (pixel_loss * hard).sum() / count, bands.gradient(1 / count)


def _pixel_losses(
    bands: "RowBands",
    labels: torch.Tensor,
    least: Callable[[torch.Tensor], torch.Tensor],
    *,
    ignore_index: int,
) -> torch.Tensor:
    """The loss (N, H, W) of each pixel, 0 if ignored; adds the gradient of the hard pixels' sum to the bands."""
    pixel_loss = torch.empty(labels.shape, device=labels.device)
    for rows, logits in bands:
        labelled = labels[:, rows] != ignore_index
        target = labels[:, rows].where(labelled, 0).unsqueeze(1)
        log_probability = logits.log_softmax(dim=1)
        loss = (-log_probability.gather(1, target).squeeze(1)).where(labelled, 0)
        pixel_loss[:, rows] = loss
        hard = ((loss >= least(loss)) & labelled).unsqueeze(1)
        gradient = log_probability.exp_()
        gradient.scatter_(1, target, gradient.gather(1, target) - 1)
        bands.add_gradient(rows, gradient.mul_(hard))
    return pixel_loss


class RowBands:
    """Logits resized to a size (bilinear, aligned corners) a band of rows at a time, and the gradient back through it.

    Args:
        logits: (N, C, h, w) floating point.
        size: (height, width) of the resized logits.

    Attributes:
        is_whole: Whether there is one band only.
    """

    def __init__(self, logits: torch.Tensor, size: Size) -> None:
        logits = logits.detach().float().contiguous()
        before = map_size(logits)
        self.size = size
        self._columns = _matrix(before[1], size[1], logits.device)
        self._rows = _matrix(before[0], size[0], logits.device)
        self._wide = logits if before[1] == size[1] else logits @ self._columns.T
        self._gradient = torch.zeros_like(self._wide)
        count, channels = logits.shape[:2]
        per_row = count * channels * size[1]
        # a GPU is faster with one large band
        self._height = max(1, _BAND_ELEMENTS // per_row) if logits.device.type == "cpu" else size[0]
        self.is_whole = self._height >= size[0]

    def __iter__(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """Each band as its rows and its values (N, C, rows, width)."""
        for top in range(0, self.size[0], self._height):
            rows = slice(top, min(top + self._height, self.size[0]))
            if self._wide.shape[2] == self.size[0]:
                yield rows, self._wide[:, :, rows]
            else:
                sources = self._sources(rows)
                yield rows, self._rows[rows, sources] @ self._wide[:, :, sources]

    def add_gradient(self, rows: slice, gradient: torch.Tensor) -> None:
        """Adds the gradient (N, C, rows, width) of a band."""
        if self._wide.shape[2] == self.size[0]:
            self._gradient[:, :, rows] = gradient
        else:
            sources = self._sources(rows)
            self._gradient[:, :, sources] += self._rows[rows, sources].T @ gradient

    def clear(self) -> None:
        """Zeroes the accumulated gradient."""
        self._gradient.zero_()

    def gradient(self, factor: torch.Tensor) -> torch.Tensor:
        """The gradient (N, C, h, w) with respect to the logits: the sum over the bands, times a factor."""
        wide = self._gradient * factor
        return wide if wide.shape[3] == self._columns.shape[1] else wide @ self._columns

    def _sources(self, rows: slice) -> slice:
        """The rows of the logits that a band depends on."""
        before, after = self._rows.shape[1], self.size[0]
        scale = (before - 1) / max(1, after - 1)
        return slice(int(rows.start * scale), min(before, int((rows.stop - 1) * scale) + 2))


@functools.lru_cache(maxsize=32)
def _matrix(before: int, after: int, device: torch.device) -> torch.Tensor:
    """The (after, before) matrix of a bilinear resize of a line, corners aligned."""
    positions = torch.linspace(0, before - 1, after, dtype=torch.float64)
    lower = positions.floor().clamp(max=max(0, before - 2)).long()
    matrix = torch.zeros(after, before, dtype=torch.float64)
    part = positions - lower
    matrix.scatter_(1, lower[:, None], (1 - part)[:, None])
    if before > 1:
        matrix.scatter_(1, lower[:, None] + 1, part[:, None])
    return matrix.float().to(device)
