"""Reading images and writing masks: one reader for training, evaluation and prediction."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fasterseg.base.errors import describe_memory_error
from fasterseg.base.files import replacing

MOST_PIXELS = 180_000_000
MOST_PIXELS_VARIABLE = "FASTERSEG_MAX_IMAGE_PIXELS"
_ORIENTATION_TAG = 0x0112
# What Pillow raises on files that it does not know or that are damaged.
_UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError)

# `most_pixels` replaces Pillow's own limit.
Image.MAX_IMAGE_PIXELS = None


class TooLargeImageError(ValueError):
    """An image has more pixels than the limit allows."""


def described(path: Path, origin: str) -> str:
    """A file's name for a message, with the line of the list that names the file."""
    return f"{path} ({origin})" if origin else str(path)


def most_pixels() -> int:
    """The largest number of pixels of an image: `MOST_PIXELS`, or the environment variable's value.

    Raises:
        ValueError: The variable is no number of pixels.
    """
    text = os.environ.get(MOST_PIXELS_VARIABLE, "").replace("_", "")
    if not text:
        return MOST_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{MOST_PIXELS_VARIABLE} is {text!r}, expected a number of pixels such as {MOST_PIXELS}")
    return int(text)


def check_pixels(size: tuple[int, int], name: str) -> None:
    """Refuses an image that is larger than the limit, before its pixels are decoded.

    Args:
        size: (height, width), from its header.
        name: The image's name in the error message.

    Raises:
        TooLargeImageError: It has more pixels than the limit; the message says how to raise it.
    """
    height, width = size
    if height * width > (most := most_pixels()):
        raise TooLargeImageError(
            f"{name} has {height}x{width} (height x width) = {height * width:,} pixels, more than {most:,}; cut it "
            f"into tiles or scale it down, its mask alike, or raise the limit: {MOST_PIXELS_VARIABLE}={height * width}"
        )


@contextmanager
def open_image(path: Path, kind: str = "image") -> Iterator[Image.Image]:
    """Opens an image with Pillow; reads only its header.

    Args:
        path: The file.
        kind: What messages call it.

    Yields:
        The image, whose pixels are not decoded yet.

    Raises:
        FileNotFoundError: The file does not exist.
        TooLargeImageError: It has more pixels than the limit.
        ValueError: It cannot be decoded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{kind} not found: {path}")
    try:
        with Image.open(path) as image:
            check_pixels((image.height, image.width), f"{kind} {path}")
            yield image
    except _UNREADABLE as error:
        raise ValueError(f"{kind} cannot be read: {path} ({error}); it is damaged or not an image") from error


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8, that `read_image` does not apply; 1 if there is none.

    It is always 1 for TIFF files, because Pillow and OpenCV both apply it while reading.
    """
    if image.format == "TIFF":
        return 1
    orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    return orientation if orientation in range(1, 9) else 1


def read_image(path: Path, origin: str = "") -> NDArray[np.uint8]:
    """Reads an image as RGB bytes; an EXIF orientation is not applied, because masks have none.

    Args:
        path: Any format OpenCV reads.
        origin: The line of the list that names it, for messages.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Raises:
        FileNotFoundError: The file does not exist.
        TooLargeImageError: It has more pixels than the limit.
        ValueError: The file is damaged, cut off or not an image.
    """
    name = described(path, origin)
    if not path.is_file():
        raise FileNotFoundError(f"image not found: {name}; correct the path or restore the file")
    data = path.read_bytes()
    _check_header(data, f"image {name}")
    try:
        image = _decode(data) if data else None
    except cv2.error as error:
        if describe_memory_error(error) is not None:
            raise
        raise ValueError(f"image cannot be read: {name} ({error})") from error
    if image is None:
        raise ValueError(f"image cannot be read: {name}; it is damaged, cut off or not an image")
    return np.asarray(image, np.uint8)


def _check_header(data: bytes, name: str) -> None:
    """Checks the size in the header; OpenCV's own limit applies to formats that Pillow does not read."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = (image.height, image.width)
    except (*_UNREADABLE, ValueError):
        return
    check_pixels(size, name)


def _decode(data: bytes) -> NDArray[np.generic] | None:
    """The pixels of an encoded image, or None where it cannot be decoded."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)


def write_png(path: Path, values: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Writes (H, W) as a grey PNG (8 or 16 bits) or (H, W, 3) as an RGB PNG, with unchanged values."""
    with replacing(path) as temporary:
        Image.fromarray(values).save(temporary, format="PNG")
