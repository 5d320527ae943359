"""Sets of pixels that objects of the sources cover: polygons, run lengths, thick lines, and pixels one by one.

`painting` paints them over each other.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from dataset_tools.polygons import fill_polygon


class Region(Protocol):
    """A set of pixels."""

    @property
    def area_px(self) -> float:
        """How many pixels it covers, roughly; only compared with others of the same image."""

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets its pixels of the target, shape (H, W), in place."""


class Outline(NamedTuple):
    """A polygon between pixel centres, whose border belongs to it; corners (x, y) rounded to whole pixels."""

    points: NDArray[np.int32]

    @property
    def area_px(self) -> float:
        """Area within the corners."""
        return float(cv2.contourArea(self.points))

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Fills the polygon."""
        fill_polygon(target, self.points, value)


class RunLengths(NamedTuple):
    """Pixels as COCO's run lengths: column by column, background and object by turns, background first.

    They add up to the pixels of the image.
    """

    counts: NDArray[np.int64]

    @property
    def area_px(self) -> float:
        """Number of pixels."""
        return float(self.counts[1::2].sum())

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels."""
        columns = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        target[columns.reshape(target.shape[::-1]).T] = value


class Stroke(NamedTuple):
    """Everything within a radius of a line through points (x, y); of a single point, a disc."""

    points: NDArray[np.float64]
    radius_px: float

    @property
    def area_px(self) -> float:
        """Area of the line and its round ends."""
        lengths = np.hypot(*np.diff(self.points, axis=0).T)
        return float(2 * self.radius_px * lengths.sum() + np.pi * self.radius_px**2)

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels whose centre lies within the radius."""
        starts, ends = (self.points, self.points) if len(self.points) == 1 else (self.points[:-1], self.points[1:])
        for start, end in zip(starts, ends, strict=True):
            self._paint_segment(target, start, end, value)

    def _paint_segment(
        self, target: NDArray[np.uint8], start: NDArray[np.float64], end: NDArray[np.float64], value: int
    ) -> None:
        """Sets the pixels near one straight piece; only those around it are looked at."""
        limits = np.array([target.shape[1], target.shape[0]])
        low = np.clip(np.floor(np.minimum(start, end) - self.radius_px), 0, limits).astype(int)
        high = np.clip(np.ceil(np.maximum(start, end) + self.radius_px) + 1, 0, limits).astype(int)
        y, x = np.mgrid[low[1] : high[1], low[0] : high[0]]
        along, offset = end - start, np.stack([x - start[0], y - start[1]], axis=-1)
        length2 = float(along @ along)
        share = np.clip(offset @ along / length2, 0, 1) if length2 else np.zeros(x.shape)
        near = np.square(offset - share[..., None] * along).sum(axis=-1) <= self.radius_px**2
        target[low[1] : high[1], low[0] : high[0]][near] = value


class Patch(NamedTuple):
    """Pixels given one by one: a boolean array whose upper left pixel is at (left, top) of the image."""

    pixels: NDArray[np.bool_]
    left: int
    top: int

    @property
    def area_px(self) -> float:
        """Number of pixels."""
        return float(np.count_nonzero(self.pixels))

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels that lie within the target."""
        top, left = max(self.top, 0), max(self.left, 0)
        bottom = min(self.top + self.pixels.shape[0], target.shape[0])
        right = min(self.left + self.pixels.shape[1], target.shape[1])
        if top < bottom and left < right:
            inner = self.pixels[top - self.top : bottom - self.top, left - self.left : right - self.left]
            target[top:bottom, left:right][inner] = value


def trace_polygons(polygons: Sequence[NDArray[np.float64]], size: tuple[int, int]) -> RunLengths:
    """Rasterises the outlines of one object as COCO's own tools do.

    Coordinates are continuous, so that a pixel covers x..x+1: two polygons that share an edge share no pixel. An object
    of several outlines covers all of them.

    Args:
        polygons: Corners (x, y) in pixels, shape (corners, 2) each.
        size: (height, width) of the image.
    """
    flat = [points.reshape(-1).tolist() for points in polygons]
    return RunLengths(decompress_counts(mask_api.merge(mask_api.frPyObjects(flat, *size))["counts"]))


def decompress_counts(text: bytes) -> NDArray[np.int64]:
    """Reads run lengths in COCO's compression.

    A character holds 5 bits, lowest first, and a sixth that says whether the number goes on; numbers are signed, and
    from the fourth on they are differences to the last but one.

    Args:
        text: The field `counts`, as bytes.

    Raises:
        ValueError: A character does not belong there, a length is negative, or the text ends within a number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = character - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"the character {chr(character)!r} does not occur in it")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("it ends within a number")
    if min(counts, default=0) < 0:
        raise ValueError("it holds negative lengths")
    return np.array(counts, np.int64)


def lies_outside(points: NDArray[np.floating], size: tuple[int, int]) -> bool:
    """Whether the box around points (x, y) has no part in common with the image."""
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high < 0).any() or low[0] >= size[1] or low[1] >= size[0])
