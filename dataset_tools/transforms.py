"""Geometry of (image, label) pairs: scale, crop, flip, pad.

`TrainTransform` augments at random, `EvalTransform` keeps the whole image. Both are frozen, hold no random state and
draw every random number from the generator that they are given. Of an image that is scaled and cropped, only the part
under the crop is scaled: the values are those of scaling the whole image, and of a memory-mapped image only the pages
under the crop are read.
"""

from dataclasses import dataclass
from math import gcd
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.config import check_crop_size

# Statistics of ImageNet in RGB for values in 0..1, which pretrained backbones expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SCALES = (0.75, 1.0, 1.25)
_CROP_ATTEMPTS = 10

Color = tuple[float, float, float]
Pair = tuple[NDArray[np.uint8], NDArray[np.integer]]
PixelT = TypeVar("PixelT", bound=np.integer[Any])


class Window(NamedTuple):
    """A rectangle in pixels; it may reach over the borders of the image that it is placed on."""

    top: int
    left: int
    height: int
    width: int

    @property
    def place(self) -> tuple[slice, slice]:
        """Index of the window in an image that holds all of it."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)

    def inside(self, size: tuple[int, int]) -> "Window":
        """The part of the window that lies on an image of a size (height, width)."""
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(size[0], self.top + self.height), min(size[1], self.left + self.width)
        return Window(top, left, bottom - top, right - left)


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) after scaling, rounded, at least 1."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize_label(label: NDArray[PixelT], size: tuple[int, int], window: Window | None = None) -> NDArray[PixelT]:
    """Resizes ids to the nearest pixel centre.

    Indexing instead of `cv2.resize`, whose nearest modes shift by half a pixel (NEAREST) or differ between versions
    (NEAREST_EXACT).

    Args:
        label: Ids, shape (H, W).
        size: (height, width) that the whole label is resized to.
        window: Part of the resized label that is wanted; all of it when None.

    Returns:
        Ids of the same type, shape (window.height, window.width).
    """
    window = window or Window(0, 0, *size)
    if size == label.shape:
        return label[window.place]
    rows = _nearest(label.shape[0], size[0], window.top, window.height)
    columns = _nearest(label.shape[1], size[1], window.left, window.width)
    return np.take(label[rows], columns, axis=1)


def _nearest(old: int, new: int, start: int, count: int) -> NDArray[np.intp]:
    """Source pixels of `count` resized pixels along one axis."""
    return ((np.arange(start, start + count) * 2 + 1) * old // (2 * new)).astype(np.intp)


def resize_image(image: NDArray[np.uint8], size: tuple[int, int], window: Window | None = None) -> NDArray[np.uint8]:
    """Resizes an image with bilinear interpolation.

    Args:
        image: Shape (H, W, 3).
        size: (height, width) that the whole image is resized to.
        window: Part of the resized image that is wanted; all of it when None.

    Returns:
        Shape (window.height, window.width, 3).
    """
    window = window or Window(0, 0, *size)
    if size == image.shape[:2]:
        return image[window.place]
    y = _Span.around(image.shape[0], size[0], window.top, window.height)
    x = _Span.around(image.shape[1], size[1], window.left, window.width)
    part = image[y.source_start : y.source_end, x.source_start : x.source_end]
    resized = cv2.resize(part, (x.end - x.start, y.end - y.start), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized[window._replace(top=window.top - y.start, left=window.left - x.start).place], np.uint8)


class _Span(NamedTuple):
    """A stretch of one axis, in resized and in source pixels, whose ends are the same places in both."""

    start: int
    end: int
    source_start: int
    source_end: int

    @classmethod
    def around(cls, old: int, new: int, start: int, count: int) -> "_Span":
        """The shortest such stretch that resizes by itself as it does within the whole axis.

        Resized and source pixels line up again after every `new / gcd` of the one and `old / gcd` of the other, so a
        stretch of whole periods has the same interpolation weights. One more period on either side keeps the ends,
        where pixels are repeated, away from what is wanted.
        """
        periods = gcd(old, new)
        period, source_period = new // periods, old // periods
        first = max(0, start // period - 1)
        last = min(periods, -(-(start + count) // period) + 1)
        return cls(first * period, last * period, first * source_period, last * source_period)


def pad(part: NDArray[PixelT], inside: Window, window: Window, padding: NDArray[PixelT] | int) -> NDArray[PixelT]:
    """Puts the part that lies on the image into the whole window; the rest gets the padding value.

    Args:
        part: Content of `inside`, shape (inside.height, inside.width, ...).
        inside: `window.inside(...)`.
        window: The whole window.
        padding: Value of each pixel outside.

    Returns:
        Shape (window.height, window.width, ...).
    """
    if inside == window:
        return part
    padded = np.empty((window.height, window.width, *part.shape[2:]), part.dtype)
    padded[:] = padding
    padded[inside._replace(top=inside.top - window.top, left=inside.left - window.left).place] = part
    return padded


def _check_positive(field: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{field} is {value}, expected more than 0")


@dataclass(frozen=True)
class EvalTransform:
    """The whole image, scaled by a fixed factor.

    Attributes:
        image_scale: Factor of both sides, e.g. 0.5 for half-size images; the label is scaled along.
        mean: Mean per RGB channel, for values in 0..1; what the image is normalised with afterwards.
        std: Standard deviation per RGB channel, likewise.
    """

    image_scale: float = 1.0
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check_positive("image_scale", self.image_scale)

    def augment(self, image: NDArray[np.uint8], label: NDArray[np.integer], _generator: np.random.Generator) -> Pair:
        """Scales (H, W, 3) RGB bytes and (H, W) ids; nothing is random."""
        size = scaled_size((label.shape[0], label.shape[1]), self.image_scale)
        return resize_image(image, size), resize_label(label, size)


@dataclass(frozen=True)
class TrainTransform:
    """Random flip, scale and crop.

    Attributes:
        crop_size_px: (height, width) of the result; both divisible by 32. A scaled image that is smaller is placed at
            random and padded, the image with the mean colour and the label with the ignore index.
        scales: Random factors, one drawn per image, on top of image_scale.
        flip_probability: Probability of a horizontal flip.
        image_scale: Fixed factor, e.g. 0.5 for half-size images.
        mean: Mean per RGB channel, for values in 0..1; what the image is normalised with afterwards.
        std: Standard deviation per RGB channel, likewise.
        ignore_index: Label of padding.
        min_valid_fraction: A crop with a smaller part of labelled pixels is drawn again, ten times at most.

    Raises:
        ValueError: A field is out of its range.
    """

    crop_size_px: tuple[int, int]
    scales: tuple[float, ...] = DEFAULT_SCALES
    flip_probability: float = 0.5
    image_scale: float = 1.0
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD
    ignore_index: int = 255
    min_valid_fraction: float = 0.05

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_crop_size(self.crop_size_px)
        _check_positive("image_scale", self.image_scale)
        if not self.scales:
            raise ValueError("scales is empty, expected at least one factor; use [1.0] for no random scaling")
        for scale in self.scales:
            _check_positive("scales", scale)
        for field in ("flip_probability", "min_valid_fraction"):
            if not 0 <= getattr(self, field) <= 1:
                raise ValueError(f"{field} is {getattr(self, field)}, expected 0..1")

    def augment(self, image: NDArray[np.uint8], label: NDArray[np.integer], generator: np.random.Generator) -> Pair:
        """Scales, crops and flips (H, W, 3) RGB bytes and (H, W) ids."""
        flip = generator.random() < self.flip_probability
        scale = self.scales[int(generator.integers(len(self.scales)))]
        image, label = self._scaled_crop(image, label, self.image_scale * scale, generator)
        return (image[:, ::-1], label[:, ::-1]) if flip else (image, label)

    def _scaled_crop(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], factor: float, generator: np.random.Generator
    ) -> Pair:
        """Cuts a random window of crop_size_px out of the scaled pair; it may reach over the borders."""
        size = scaled_size((label.shape[0], label.shape[1]), factor)
        for _ in range(_CROP_ATTEMPTS):
            corner = [
                int(generator.integers(min(0, side - crop), max(0, side - crop) + 1))
                for side, crop in zip(size, self.crop_size_px, strict=True)
            ]
            window = Window(corner[0], corner[1], *self.crop_size_px)
            inside = window.inside(size)
            label_part = resize_label(label, size, inside)
            valid = np.count_nonzero(label_part != self.ignore_index)
            if valid >= self.min_valid_fraction * window.height * window.width:
                break
        padding = np.rint(np.asarray(self.mean) * 255).astype(np.uint8)
        image_part = resize_image(image, size, inside)
        return pad(image_part, inside, window, padding), pad(label_part, inside, window, self.ignore_index)


Transform = TrainTransform | EvalTransform
