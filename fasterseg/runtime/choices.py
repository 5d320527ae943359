"""Choices and defaults of the options of `fasterseg`; needs no PyTorch, so that `--help` answers at once."""

from enum import StrEnum
from typing import Literal

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
DEFAULT_OPSET = 18
# the resize of the logits to the image's size in an exported file: matrix products for a CPU, a node for a GPU
LastResize = Literal["products", "node"]
# the branches of a released architecture; `auto` takes the pair with the better score in the file
BranchChoice = Literal["auto", "32-16", "32-8"]


class PictureKind(StrEnum):
    """What a picture shows: train ids, class colours, colours over the image, or ids of the source labelling."""

    INDEX = "index"
    COLOR = "color"
    OVERLAY = "overlay"
    LABEL_IDS = "label_ids"


DEFAULT_KINDS: tuple[PictureKind, ...] = (PictureKind.INDEX, PictureKind.COLOR, PictureKind.OVERLAY)
