"""Pictures: train ids in class colours, class colours over an image, examples side by side."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fasterseg.base.normalization import denormalize

Color = tuple[int, int, int]
BLACK: Color = (0, 0, 0)


def colorize(train_ids: NDArray[np.integer], colors: Sequence[Color], *, outside: Color = BLACK) -> NDArray[np.uint8]:
    """Train ids in colour.

    Args:
        train_ids: (H, W), any integer type.
        colors: RGB of each class, by train id.
        outside: RGB of ids that are no class, such as the ignore index.

    Returns:
        RGB (H, W, 3) uint8.
    """
    palette = np.asarray([*colors, outside], dtype=np.uint8)
    inside = (train_ids >= 0) & (train_ids < len(colors))
    picture: NDArray[np.uint8] = palette[np.where(inside, train_ids, np.intp(len(colors)))]
    return picture


def overlay(
    image: NDArray[np.uint8], colored: NDArray[np.uint8], opacity: float, *, shown: NDArray[np.bool_] | None = None
) -> NDArray[np.uint8]:
    """An image with the classes' colours laid over it.

    Args:
        image: RGB (H, W, 3) uint8.
        colored: Class colours, RGB (H, W, 3) uint8.
        opacity: Weight of the colours, 0..1; 1 hides the image.
        shown: (H, W) bool, the pixels that get colours; all when None.

    Returns:
        RGB (H, W, 3) uint8.
    """
    blended = np.asarray(cv2.addWeighted(image, 1 - opacity, colored, opacity, 0), np.uint8)
    return blended if shown is None else np.where(shown[..., None], blended, image).astype(np.uint8)


def example_picture(
    image: NDArray[np.floating],
    label: NDArray[np.integer],
    prediction: NDArray[np.integer],
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
        mean: Mean per channel that the image was normalised with.
        std: Standard deviation per channel that the image was normalised with.

    Returns:
        RGB (H, 3·W, 3) uint8.
    """
    parts = [denormalize(image, mean=mean, std=std)]
    parts += [colorize(ids, colors) for ids in (label, prediction)]
    return np.concatenate(parts, axis=1)
