"""The networks' input: RGB bytes to normalised floats and back, the same in training and in deployment."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def normalize(
    image: NDArray[np.uint8], *, mean: Sequence[float], std: Sequence[float], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Turns RGB bytes into the networks' input, (x / 255 - mean) / std.

    Args:
        image: Shape (H, W, 3), uint8.
        mean: Mean per channel, for values in 0..1.
        std: Standard deviation per channel.
        out: Array for the result, shape (3, H, W), float32; a new one when None.

    Returns:
        Shape (3, H, W), float32.
    """
    if out is None:
        out = np.empty((3, *image.shape[:2]), np.float32)
    scale = 1.0 / np.asarray(std, np.float32)
    shift = np.asarray(mean, np.float32) * scale
    # Channel by channel, a plane stays in the processor's cache, and no transposed copy of the image is needed.
    for channel, plane in enumerate(out):
        np.multiply(image[..., channel], scale[channel] / np.float32(255), out=plane)
        plane -= shift[channel]
    return out


def denormalize(values: NDArray[np.floating], *, mean: Sequence[float], std: Sequence[float]) -> NDArray[np.uint8]:
    """A normalised (3, H, W) image as RGB (H, W, 3) uint8; undoes `normalize`."""
    bytes_as_floats = (values.transpose(1, 2, 0) * np.asarray(std) + np.asarray(mean)) * 255
    return np.asarray(bytes_as_floats.round().clip(0, 255), np.uint8)
