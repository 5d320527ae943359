"""The fused form of the losses in `fasterseg.engine.losses`: the same values, in less time and memory.

Logits of a head at stride 8 are 64 times as many numbers once they are resized to the labels. On a CPU these losses
resize them a band of rows at a time, so that a band stays in the processor's cache and the whole is never held; on a
GPU there is one band. The gradient is computed with the loss, from one log-softmax, and goes back through the resize
band by band, too. A reader of the losses can skip this module.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch.autograd.function import once_differentiable

from fasterseg.networks.resizing import Size, map_size

# what a band may hold on a CPU: 2 MiB of float32, about a core's second-level cache
_BAND_ELEMENTS = 2**19


class HardPixelRule(Protocol):
    """Which pixels count; `fasterseg.engine.losses.OhemCrossEntropy`."""

    threshold: float
    ignore_index: int

    def least_loss(self, pixel_loss: torch.Tensor) -> torch.Tensor:
        """The loss from which on a pixel is hard."""
        ...

    def mean_count(self, hard: torch.Tensor) -> torch.Tensor:
        """What to divide the sum over the hard pixels by."""
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
    """The node of `fused_ohem`."""

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
    """The node of `fused_kl`; one log-softmax of each side gives the value and the gradient."""

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
    """The loss, and its gradient (N, C, h, w) in the logits.

    Which pixels are hard is known after the last band only. Bands first count on the threshold alone; where that keeps
    too few pixels, they run a second time.
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
    # a product, not a selection: a NaN must reach the sum, where the loop finds it
    return (pixel_loss * hard).sum() / count, bands.gradient(1 / count)


def _pixel_losses(
    bands: "RowBands",
    labels: torch.Tensor,
    least: Callable[[torch.Tensor], torch.Tensor],
    *,
    ignore_index: int,
) -> torch.Tensor:
    """Each pixel's loss, 0 where it is ignored; the bands get the gradient of the sum over all from `least` on."""
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
        size: (height, width) of the rows.

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
        # a GPU has no use for small pieces
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
        """Drops the gradient so far."""
        self._gradient.zero_()

    def gradient(self, factor: torch.Tensor) -> torch.Tensor:
        """The gradient (N, C, h, w) of the logits: that of all bands, times a factor."""
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
