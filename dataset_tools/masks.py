"""Reading, writing, checking and colouring label masks.

Masks are read by Pillow only. OpenCV expands palette PNGs to colours and then to luminance, which silently turns class
ids into other numbers; Pillow returns the stored index.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dataset_tools.files import write_bytes

READABLE_MODES = ("P", "L", "I;16")


def read_mask(path: Path) -> NDArray[np.integer]:
    """Reads a one-channel mask of class ids.

    Args:
        path: A palette, 8-bit grey or 16-bit grey image.

    Returns:
        Class ids, shape (H, W), uint8 for 8-bit files and uint16 for 16-bit ones.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file cannot be decoded, or holds colours instead of ids.
    """
    if not path.is_file():
        raise FileNotFoundError(f"mask not found: {path}")
    try:
        with Image.open(path) as image:
            _check_mode(path, image)
            # Palette images give their index here: Pillow applies the palette only on convert().
            return np.asarray(image)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"mask cannot be read: {path} ({error}); it is damaged or not an image") from error


def _check_mode(path: Path, image: Image.Image) -> None:
    """Refuses images whose pixels are not the class ids themselves."""
    if image.mode not in READABLE_MODES:
        raise ValueError(
            f"mask {path} has the mode {image.mode}, expected one channel of class ids "
            f"(modes {', '.join(READABLE_MODES)}); a mask of colours has to be converted to ids first"
        )
    # Pillow stretches 2-bit and 4-bit grey to 0..255, so that id 1 would read as 85 or 17.
    tiles = getattr(image, "tile", None)
    raw_mode = tiles[0][3] if tiles else None
    if raw_mode in ("L;2", "L;4"):
        raise ValueError(f"mask {path} is a grey image of {str(raw_mode)[2:]} bits; save it with 8 bits per pixel")


def write_mask(path: Path, mask: NDArray[np.integer]) -> None:
    """Writes class ids as an 8-bit grey PNG.

    Args:
        path: The file, ending in .png.
        mask: Class ids in 0..255, shape (H, W).

    Raises:
        ValueError: The array is not (H, W), or an id does not fit 8 bits.
    """
    if mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask for {path} has the shape {mask.shape}, expected (H, W)")
    low, high = int(mask.min()), int(mask.max())
    if low < 0 or high > 255:
        raise ValueError(f"mask for {path} holds ids {low}..{high}, expected 0..255")
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(buffer, format="PNG", compress_level=3)
    write_bytes(path, buffer.getvalue())


def check_mask_values(mask: NDArray[np.integer], *, num_classes: int, ignore_index: int, source: str) -> None:
    """Refuses a mask with values that are neither a class nor ignored.

    Args:
        mask: Class ids, shape (H, W).
        num_classes: Ids 0..num_classes-1 are allowed.
        ignore_index: The one further value that is allowed.
        source: What the error names: the file, and the list line it stands in.

    Raises:
        ValueError: Names the file, each wrong value with its pixel count, and what is allowed.
    """
    wrong = (mask >= num_classes) & (mask != ignore_index)
    if not wrong.any():
        return
    values, counts = np.unique(mask[wrong], return_counts=True)
    listed = ", ".join(f"{value} ({count} pixels)" for value, count in list(zip(values, counts, strict=True))[:8])
    more = f" and {len(values) - 8} more values" if len(values) > 8 else ""
    raise ValueError(
        f"{source} holds values outside the classes: {listed}{more}; allowed are 0..{num_classes - 1} and the "
        f"ignore index {ignore_index}; map the mask to train ids, or add the classes to dataset.yaml"
    )
