"""Pictures for people: train ids in their classes' colours, and image, label and prediction side by side."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Color = tuple[int, int, int]


def colorize(train_ids: NDArray[np.integer], colors: Sequence[Color]) -> NDArray[np.uint8]:
    """Train ids in colour.

    Args:
        train_ids: (H, W); ids beyond the classes, such as the ignore index, become black.
        colors: RGB of each class, by train id.

    Returns:
        RGB (H, W, 3) uint8.
    """
    palette = np.asarray(colors, dtype=np.uint8)
    inside = (train_ids >= 0) & (train_ids < len(colors))
    picture = np.zeros((*train_ids.shape, 3), dtype=np.uint8)
    picture[inside] = palette[train_ids[inside]]
    return picture


def denormalize(image: torch.Tensor, *, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """A normalised (3, H, W) image as RGB bytes (H, W, 3)."""
    channels = image.detach().float().cpu().numpy().transpose(1, 2, 0)
    values: NDArray[np.float64] = (channels * np.asarray(std) + np.asarray(mean)) * 255
    return values.round().clip(0, 255).astype(np.uint8)


def example_picture(
    image: torch.Tensor,
    label: torch.Tensor,
    prediction: torch.Tensor,
    *,
    colors: Sequence[Color],
    mean: Sequence[float],
    std: Sequence[float],
) -> NDArray[np.uint8]:
    """Image, label and prediction side by side.

    Args:
        image: (3, H, W), normalised.
        label: (H, W) train ids and the ignore index.
        prediction: (H, W) train ids.
        colors: RGB of each class, by train id.
        mean: What the image was normalised with.
        std: Likewise.

    Returns:
        RGB (H, 3·W, 3) uint8.
    """
    parts = [denormalize(image, mean=mean, std=std)]
    parts += [colorize(ids.cpu().numpy(), colors) for ids in (label, prediction)]
    return np.concatenate(parts, axis=1)
