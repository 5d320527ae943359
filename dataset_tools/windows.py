"""Windows of scaled images, without scaling what lies outside of them.

The values are those of scaling the whole image and cutting the window out: `transforms` does what a plain formulation
would, only with less work, and of a memory-mapped image only the pages under the window are read.
"""

from math import gcd
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

PixelT = TypeVar("PixelT", bound=np.integer[Any])


class Window(NamedTuple):
    """A rectangle in pixels; it may reach over the borders of the image that it is placed on."""

    top: int
    left: int
    height: int
    width: int

    def inside(self, size: tuple[int, int]) -> "Window":
        """The part of the window that lies on an image of a size (height, width)."""
        top, left = max(0, self.top), max(0, self.left)
        bottom, right = min(size[0], self.top + self.height), min(size[1], self.left + self.width)
        return Window(top, left, bottom - top, right - left)


def scaled_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """(height, width) after scaling, rounded, at least 1."""
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resize_label_window(label: NDArray[PixelT], size: tuple[int, int], window: Window) -> NDArray[PixelT]:
    """A window of ids that are resized to the nearest pixel centre.

    Indexing instead of `cv2.resize`, whose nearest modes shift by half a pixel (NEAREST) or differ between versions
    (NEAREST_EXACT).

    Args:
        label: Ids, shape (H, W).
        size: (height, width) that the whole label is resized to.
        window: Part of the resized label.

    Returns:
        Ids, shape (window.height, window.width), of the same type.
    """
    if size == label.shape:
        return label[window.top : window.top + window.height, window.left : window.left + window.width]
    rows = _nearest(label.shape[0], size[0], window.top, window.height)
    columns = _nearest(label.shape[1], size[1], window.left, window.width)
    return np.take(label[rows], columns, axis=1)


def _nearest(old: int, new: int, start: int, count: int) -> NDArray[np.intp]:
    """Source pixels of `count` resized pixels along one axis."""
    return ((np.arange(start, start + count) * 2 + 1) * old // (2 * new)).astype(np.intp)


def resize_image_window(image: NDArray[np.uint8], size: tuple[int, int], window: Window) -> NDArray[np.uint8]:
    """A window of an image that is resized with bilinear interpolation.

    Args:
        image: Shape (H, W, 3).
        size: (height, width) that the whole image is resized to.
        window: Part of the resized image.

    Returns:
        Shape (window.height, window.width, 3).
    """
    if size == image.shape[:2]:
        return image[window.top : window.top + window.height, window.left : window.left + window.width]
    y = _Span.around(image.shape[0], size[0], window.top, window.height)
    x = _Span.around(image.shape[1], size[1], window.left, window.width)
    part = image[y.source_start : y.source_end, x.source_start : x.source_end]
    resized = cv2.resize(part, (x.end - x.start, y.end - y.start), interpolation=cv2.INTER_LINEAR)
    top, left = window.top - y.start, window.left - x.start
    return np.asarray(resized[top : top + window.height, left : left + window.width], np.uint8)


class _Span(NamedTuple):
    """A stretch of one axis, in resized and in source pixels, that both begin and end on the same place."""

    start: int
    end: int
    source_start: int
    source_end: int

    @classmethod
    def around(cls, old: int, new: int, start: int, count: int) -> "_Span":
        """The shortest such stretch that resizes by itself as it does within the whole axis.

        Resized and source pixels line up again after every `new / gcd` of the one and `old / gcd` of the other, so a
        stretch of whole such periods has the same interpolation weights. One more on either side keeps the ends, where
        pixels are repeated, away from what is wanted.
        """
        periods = gcd(old, new)
        period, source_period = new // periods, old // periods
        first = max(0, start // period - 1)
        last = min(periods, -(-(start + count) // period) + 1)
        return cls(first * period, last * period, first * source_period, last * source_period)


def pad(part: NDArray[PixelT], inside: Window, window: Window, padding: NDArray[PixelT] | int) -> NDArray[PixelT]:
    """Puts what lies on the image into the whole window; the rest is filled with the padding value.

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
    y, x = inside.top - window.top, inside.left - window.left
    padded[y : y + inside.height, x : x + inside.width] = part
    return padded
