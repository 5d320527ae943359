"""Reads one pair of files and keeps what the checks need: sizes, modes, hashes and counts, never pixels.

Runs in the doctor's worker processes. Images and masks are read by the readers of training, so that what passes here
can be trained on. Pillow then looks for what OpenCV does not report: files that were cut off, and orientation tags.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dataset_tools.masks import READABLE_MODES, Rgb, read_mask
from dataset_tools.samples import Sample
from fasterseg.base.images import TooLargeImageError, described, open_image, orientation_of, read_image

HASH_BITS = 128
_GRID = 8
# A picture whose brightness hardly varies has a hash of noise.
_MIN_CONTRAST = 8
_COLOR_MODES = frozenset(("RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"))
_LOSSY_FORMATS = frozenset(("JPEG", "MPO"))
_COLOR_SAMPLES = 20_000
# What Pillow raises on damaged files, by format and kind of damage.
_DAMAGE = (OSError, SyntaxError, ValueError, struct.error)


class Problem(NamedTuple):
    """Something wrong with one pair: a code of `findings.FINDING_KINDS` and what was found."""

    code: str
    detail: str


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of an image.

    Attributes:
        size: (height, width) as stored.
        mode: Pillow's name of its channels, such as RGB or L.
        orientation: EXIF orientation, 1 when there is none.
        digest: Hash of the pixels, the same for the same picture in another lossless format.
        near_hash: `difference_hash` of it.
    """

    size: tuple[int, int]
    mode: str
    orientation: int
    digest: bytes
    near_hash: bytes | None


@dataclass(frozen=True)
class MaskFacts:
    """What is kept of a mask.

    Attributes:
        size: (height, width).
        pixels: Number of pixels of each value that occurs.
        palette: Colour of each value that occurs, where the file has a palette.
    """

    size: tuple[int, int]
    pixels: Mapping[int, int]
    palette: Mapping[int, Rgb]


@dataclass(frozen=True)
class Observation:
    """What is kept of a pair; a part is None where it is missing or cannot be read."""

    image: ImageFacts | None
    mask: MaskFacts | None
    problems: tuple[Problem, ...]


def missing_files(sample: Sample) -> list[Problem]:
    """Names the files of a pair that do not exist."""
    kinds = (("image", sample.image), ("mask", sample.mask))
    return [
        Problem("missing-file", f"{kind} not found: {described(path, sample.origin)}")
        for kind, path in kinds
        if path is not None and not path.is_file()
    ]


def inspect_pair(sample: Sample, colors: tuple[Rgb, ...]) -> Observation:
    """Reads a pair.

    Args:
        sample: The pair.
        colors: Colour of each class, to tell which classes a mask of colours shows.

    Returns:
        What was found.
    """
    problems = missing_files(sample)
    image: ImageFacts | None = None
    mask: MaskFacts | None = None
    if sample.image.is_file():
        image = _inspect_image(sample, problems)
    if sample.mask is not None and sample.mask.is_file():
        mask = _inspect_mask(sample.mask, sample.origin, colors, problems)
    return Observation(image, mask, tuple(problems))


def inspect_pairs(samples: tuple[Sample, ...], colors: tuple[Rgb, ...]) -> list[Observation]:
    """Reads several pairs; the unit of work of a worker process."""
    return [inspect_pair(sample, colors) for sample in samples]


def _inspect_image(sample: Sample, problems: list[Problem]) -> ImageFacts | None:
    """Decodes an image twice: as training does, and with a second decoder that tells mode and orientation."""
    try:
        pixels = read_image(sample.image, sample.origin)
    except TooLargeImageError as error:
        problems.append(Problem("too-large", str(error)))
        return None
    except ValueError as error:
        problems.append(Problem("unreadable", str(error)))
        return None
    try:
        mode, orientation = _look_closer(sample.image)
    except _DAMAGE as error:
        name = described(sample.image, sample.origin)
        problems.append(Problem("unreadable", f"image is damaged or cut off: {name} ({error})"))
        return None
    digest = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    size = (pixels.shape[0], pixels.shape[1])
    return ImageFacts(size, mode, orientation, digest.digest(), difference_hash(pixels))


def _look_closer(path: Path) -> tuple[str, int]:
    """Mode and orientation of an image that is whole.

    Raises:
        OSError: It is cut off or damaged (or one of the other errors of `_DAMAGE`).
    """
    with Image.open(path) as image:
        mode, orientation = image.mode, orientation_of(image)
        if image.format != "PNG":
            # JPEG decodes at an eighth of its size, still reading the file to its end.
            image.draft(None, (1, 1))
            image.load()
            return mode, orientation
    with Image.open(path) as image:
        # Checks the length and checksum of every chunk without decoding.
        image.verify()
    return mode, orientation


def _inspect_mask(path: Path, origin: str, colors: tuple[Rgb, ...], problems: list[Problem]) -> MaskFacts | None:
    """Decodes a mask, after its form was found to be that of a mask."""
    name = described(path, origin)
    try:
        with open_image(path, "mask") as opened:
            form = _form_problem(opened, name, colors)
            palette = _palette(opened)
        ids = read_mask(path) if form is None else None
    except TooLargeImageError as error:
        problems.append(Problem("too-large", str(error)))
        return None
    except _DAMAGE as error:
        refused = isinstance(error, ValueError) and error.__cause__ is None and str(path) in str(error)
        problems.append(Problem("mask-mode" if refused else "unreadable", f"mask cannot be read: {name} ({error})"))
        return None
    if form is not None or ids is None:
        problems.extend([form] if form else [])
        return None
    counts = np.bincount(ids.ravel())
    pixels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    used = {value: palette[value] for value in pixels if value in palette}
    return MaskFacts((ids.shape[0], ids.shape[1]), pixels, used)


def _form_problem(image: Image.Image, name: str, colors: tuple[Rgb, ...]) -> Problem | None:
    """Names problems of a file as a mask that show before its values are read."""
    if image.mode in _COLOR_MODES:
        return Problem(
            "color-mask", f"mask {name} is a colour picture ({image.mode}): {_describe_colors(image, colors)}"
        )
    if image.mode not in READABLE_MODES:
        return Problem("mask-mode", f"mask {name} has the mode {image.mode}, expected {', '.join(READABLE_MODES)}")
    if image.format in _LOSSY_FORMATS:
        return Problem("lossy-mask", f"mask {name} is a {image.format} file")
    return None


def _describe_colors(image: Image.Image, colors: tuple[Rgb, ...]) -> str:
    """Tells a mask of class colours, class ids written as grey, and a photograph apart."""
    pixels: NDArray[np.uint8] = np.asarray(image.convert("RGB")).reshape(-1, 3)
    found = np.unique(pixels[:: max(1, len(pixels) // _COLOR_SAMPLES)], axis=0)
    if (found == found[:, :1]).all():
        return f"its channels are equal, with {len(found)} grey levels; it may hold ids that were saved as RGB"
    known = {color for color in colors if (found == color).all(axis=1).any()}
    if known:
        return f"{len(found)} colours, {len(known)} of them those of classes in dataset.yaml"
    return f"{len(found)} colours, none of them that of a class in dataset.yaml"


def _palette(image: Image.Image) -> dict[int, Rgb]:
    """Colour of each index of a palette image."""
    flat = image.getpalette("RGB") if image.mode == "P" else None
    if not flat:
        return {}
    return {index: (flat[3 * index], flat[3 * index + 1], flat[3 * index + 2]) for index in range(len(flat) // 3)}


def difference_hash(image: NDArray[np.uint8]) -> bytes | None:
    """A hash that near-duplicates share.

    It says where the picture gets brighter to the right and downwards, in an 8x8 grid. Copies that were scaled,
    compressed again or brightened differ in few bits, pictures of another scene in about half of them.

    Args:
        image: RGB, shape (H, W, 3).

    Returns:
        16 bytes, or None where the picture is too even to have a hash.

    Source: N. Krawetz, "Kind of like that", 2013 (the horizontal half).
    """
    # Shrunk before it is made grey: a quarter of the work, the same grid.
    small = cv2.resize(image, (_GRID + 1, _GRID + 1), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.int16)
    if int(gray.max()) - int(gray.min()) < _MIN_CONTRAST:
        return None
    rightwards = gray[:_GRID, 1:] > gray[:_GRID, :-1]
    downwards = gray[1:, :_GRID] > gray[:-1, :_GRID]
    return np.packbits(np.concatenate([rightwards.ravel(), downwards.ravel()])).tobytes()
