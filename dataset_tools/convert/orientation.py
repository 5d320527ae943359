"""Images that are stored turned: which way up their annotations were drawn, and masks for the pixels as stored.

A camera may store a picture on its side with an EXIF orientation tag, by which viewers turn it upright. Training reads
the pixels as stored, as masks have no tag. Annotation tools show, and draw on, the upright picture: such masks are made
upright and then turned the way the image is stored.
"""

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_tools.convert.source import MaskSource, PaintedMask
from fasterseg.base.images import open_image, orientation_of

DrawnOn = Literal["auto", "upright", "stored"]
_SIDEWAYS = (5, 6, 7, 8)


class StoredImage(NamedTuple):
    """An image's header: (height, width) as stored, and its EXIF orientation, 1 where nothing is to be turned."""

    size: tuple[int, int]
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """(height, width) of the upright picture."""
        return self.size[::-1] if self.orientation in _SIDEWAYS else self.size


def read_header(path: Path) -> StoredImage:
    """Reads the header of an image.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no image, or larger than is read.
    """
    with open_image(path) as image:
        return StoredImage((image.height, image.width), orientation_of(image))


def as_stored(upright: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turns upright pixels the way an image of an EXIF orientation is stored.

    Args:
        upright: Shape (H, W).
        orientation: 1 to 8.

    Returns:
        Shape (H, W), or (W, H) for 5 to 8.
    """
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    return np.ascontiguousarray(stored)


def paint_as_stored(mask: MaskSource, image: Path, header: StoredImage, drawn_on: DrawnOn) -> PaintedMask:
    """Makes the mask of an image for its pixels as stored.

    Args:
        mask: How it is made.
        image: The image, for messages.
        header: Of the image.
        drawn_on: What the annotations of images with an orientation tag were drawn on. `auto`: what has the size that
            they state; where that does not tell, outlines were drawn on the upright picture, and of masks of pixels it
            cannot be known.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is malformed, or it cannot be known what a mask of pixels was made on.
    """
    if header.orientation == 1 or not _is_upright(mask, image, header, drawn_on):
        return mask.paint(header.size)
    painted = mask.paint(header.upright_size)
    return painted._replace(mask=as_stored(painted.mask, header.orientation), turned=True)


def _is_upright(mask: MaskSource, image: Path, header: StoredImage, drawn_on: DrawnOn) -> bool:
    """Whether a mask was made on the upright picture of an image that is stored turned."""
    if drawn_on != "auto":
        return drawn_on == "upright"
    stated = mask.stated_size()
    if header.size != header.upright_size and stated in (header.size, header.upright_size):
        return stated == header.upright_size
    if not mask.is_drawn and stated == header.size:
        raise ValueError(
            f"{image} has the EXIF orientation {header.orientation}, and the size of its mask does not tell whether it "
            "fits the upright picture or the pixels as stored; say which with --drawn-on upright or --drawn-on stored"
        )
    return mask.is_drawn
