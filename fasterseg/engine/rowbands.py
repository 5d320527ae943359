"""Logits at their labels' size, a band of rows at a time: how losses at full resolution stay in the processor's cache.

Logits of a head at stride 8 are 64 times as many numbers once they are resized to the labels. Losses that go band by
band never hold them all, and the gradient goes back through the resize band by band, too.
"""

import functools
from collections.abc import Iterator

import torch

from fasterseg.networks.resizing import Size, map_size

# what a band may hold on a CPU: 2 MiB of float32, about a core's second-level cache
_BAND_ELEMENTS = 2**19


class RowBands:
    """The rows of logits resized to a size, bilinear with aligned corners, and the way back for their gradient.

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
        """Takes the gradient (N, C, rows, width) of a band."""
        if self._wide.shape[2] == self.size[0]:
            self._gradient[:, :, rows] = gradient
        else:
            sources = self._sources(rows)
            self._gradient[:, :, sources] += self._rows[rows, sources].T @ gradient

    def forget(self) -> None:
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
