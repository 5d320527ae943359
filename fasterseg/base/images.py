"""Reading images and writing masks: one reader for training, evaluation and prediction."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasterseg.base.files import replacing


def described(path: Path, origin: str) -> str:
    """A file for a message, with the list line it comes from."""
    return f"{path} ({origin})" if origin else str(path)


def read_image(path: Path, origin: str = "") -> NDArray[np.uint8]:
    """Reads an image as RGB bytes, as stored: an orientation tag is not applied, as masks have none.

    Args:
        path: Any format OpenCV reads.
        origin: The list line it stands in, for messages.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, cut off or not an image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image not found: {described(path, origin)}; correct the path or restore the file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise ValueError(f"image cannot be read: {described(path, origin)}; it is damaged, cut off or not an image")
    return np.asarray(image, np.uint8)


def write_png(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes (H, W) as a grey PNG (8 or 16 bits) or (H, W, 3) as an RGB one; Pillow keeps an index an index."""
    with replacing(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
