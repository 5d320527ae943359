"""Pictures of samples and the HTML pages that show them, for the doctor's report and `browse`.

A page stands alone: one file, no scripts, nothing fetched, every text escaped.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.masks import Rgb, read_mask
from dataset_tools.samples import Sample
from dataset_tools.transforms import resize_label
from fasterseg.base import pictures
from fasterseg.base.images import open_image, read_image
from fasterseg.base.text import printable

# Values that are neither a class nor ignored: a colour that class colours seldom are.
UNKNOWN_COLOR: Rgb = (255, 0, 255)
_OPACITY = 0.55
_JPEG_QUALITY = 85
_TEMPLATES = Path(__file__).parent / "templates"


def shrink(image: NDArray[np.uint8], width_px: int) -> NDArray[np.uint8]:
    """Scales a picture down to a width, or leaves it when it is not wider.

    Args:
        image: Shape (H, W, 3).
        width_px: The largest width.

    Returns:
        Shape (h, w, 3).
    """
    height, width = image.shape[:2]
    if width <= width_px:
        return image
    size = (width_px, max(1, round(height * width_px / width)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def overlay(
    image: NDArray[np.uint8], label: NDArray[np.integer], colors: Sequence[Rgb], *, ignore_index: int
) -> NDArray[np.uint8]:
    """An image with the classes' colours over it; ignored pixels stay as they are.

    Args:
        image: RGB, shape (H, W, 3).
        label: Train ids, of any size: it is scaled to the image.
        colors: RGB of each class.
        ignore_index: The value of pixels without a label.

    Returns:
        RGB, shape (H, W, 3). Values outside the classes are magenta.
    """
    ids = resize_label(label, (image.shape[0], image.shape[1])).astype(np.int64)
    colored = pictures.colorize(ids, colors, outside=UNKNOWN_COLOR)
    return pictures.overlay(image, colored, _OPACITY, shown=ids != ignore_index)


def sample_picture(
    sample: Sample, colors: Sequence[Rgb], *, ignore_index: int, width_px: int
) -> NDArray[np.uint8] | None:
    """A pair as one picture: the overlay, or image and mask side by side where they do not fit each other.

    Args:
        sample: The pair; its files may be damaged or missing.
        colors: RGB of each class.
        ignore_index: The value of pixels without a label.
        width_px: Width of each part.

    Returns:
        RGB, or None where neither file can be shown.
    """
    try:
        whole = read_image(sample.image)
    except (ValueError, FileNotFoundError):
        return None
    image = shrink(whole, width_px)
    if sample.mask is None:
        return image
    try:
        label = read_mask(sample.mask)
    except (ValueError, FileNotFoundError):
        mask = _raw_picture(sample.mask)
        return image if mask is None else _beside(image, mask)
    colored = overlay(image, label, colors, ignore_index=ignore_index)
    if label.shape == whole.shape[:2]:
        return colored
    blank = np.zeros((*label.shape, 3), np.uint8)
    return _beside(image, overlay(blank, label, colors, ignore_index=ignore_index))


def data_uri(picture: NDArray[np.uint8]) -> str:
    """An RGB picture as the address of an embedded JPEG, for a page that needs no other file."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    assert encoded, "OpenCV always encodes 8-bit JPEG"
    return f"data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}"


def _raw_picture(path: Path) -> NDArray[np.uint8] | None:
    """A mask file as the colours it holds, where it can be decoded at all."""
    try:
        with open_image(path, "mask") as opened:
            return np.asarray(opened.convert("RGB"), np.uint8)
    except (OSError, ValueError):
        return None


def _beside(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Two pictures side by side; the right one takes the height of the left one."""
    height = left.shape[0]
    width = max(1, round(right.shape[1] * height / right.shape[0]))
    scaled = cv2.resize(right, (width, height), interpolation=cv2.INTER_NEAREST)
    return np.concatenate([left, np.asarray(scaled, np.uint8)], axis=1)


def render_page(template: str, **values: Any) -> str:
    """Fills a template.

    Args:
        template: Its file name in the folder `templates`.
        values: What it shows; every text is escaped.

    Returns:
        The page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = printable
    return environment.get_template(template).render(values)
