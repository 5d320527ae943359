"""One sample on disk, an image and its mask: read, and checked against each other and the classes, without PyTorch."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_tools.masks import check_mask_values, read_mask
from dataset_tools.transforms import Pair
from fasterseg.base.images import described, read_image


class Sample(NamedTuple):
    """One line of a split list: an image, its mask where there is one, and where the line stands (for messages)."""

    image: Path
    mask: Path | None
    origin: str = ""


def read_pair(sample: Sample, *, num_classes: int, ignore_index: int) -> Pair:
    """Reads image and mask of a sample and checks them; see `read_image` and `read_label`.

    Args:
        sample: The pair; without a mask every pixel is ignored.
        num_classes: Ids 0..num_classes-1 are allowed.
        ignore_index: The further value that is allowed.

    Returns:
        RGB (H, W, 3) uint8, and train ids (H, W).

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file is unreadable, the sizes differ, or the mask holds a value outside the classes.
    """
    image = read_image(sample.image, sample.origin)
    size = (image.shape[0], image.shape[1])
    return image, read_label(sample, size, num_classes=num_classes, ignore_index=ignore_index)


def read_label(
    sample: Sample, image_size: tuple[int, int], *, num_classes: int, ignore_index: int
) -> NDArray[np.integer]:
    """Reads the mask of a sample and checks it against its image and the classes.

    Args:
        sample: The pair; without a mask every pixel is ignored.
        image_size: (height, width) of the image.
        num_classes: Ids 0..num_classes-1 are allowed.
        ignore_index: The further value that is allowed.

    Returns:
        Train ids, shape (H, W).

    Raises:
        FileNotFoundError: The mask does not exist.
        ValueError: It is unreadable, of another size than the image, or holds a value outside the classes.
    """
    if sample.mask is None:
        return np.full(image_size, ignore_index, np.uint8)
    name = described(sample.mask, sample.origin)
    if not sample.mask.is_file():
        raise FileNotFoundError(f"mask not found: {name}; correct the list or restore the file")
    label = read_mask(sample.mask)
    if label.shape != image_size:
        raise ValueError(
            f"image and mask differ in size (height x width): {sample.image} is {image_size[0]}x{image_size[1]}, "
            f"{name} is {label.shape[0]}x{label.shape[1]}; they must be equal"
        )
    check_mask_values(label, num_classes=num_classes, ignore_index=ignore_index, source=f"mask {name}")
    return label
