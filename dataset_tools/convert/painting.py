"""Objects to a mask: sets of pixels, and which of two overlapping objects is seen.

A format module plans its classes with `plan_shapes` and gives the objects of an image to a `Canvas`, which paints them
in the order that the user chose. Regions hold what they need to be painted, not their pixels, so that a crowded image
needs the memory of one object at a time.

Each region follows the tool whose annotations it is of. COCO's polygons and run lengths: pycocotools. labelme's
circles, points and lines: Pillow's `ImageDraw`, with which labelme itself paints them (OpenCV's have other pixels).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as mask_api

from dataset_tools.convert.classes import NamedClass, plan_classes, strip_names
from dataset_tools.convert.source import PaintedMask
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable
from dataset_tools.polygons import fill_polygon

PaintOrder = Literal["file", "reversed", "area", "class"]
Background = Literal["class", "ignore"]
Unlabelled = Literal["error", "background"]
Degenerate = Literal["error", "skip"]

BACKGROUND_NAMES = ("background", "_background_")
OUTSIDE = "objects that lie wholly outside their image"
DEGENERATE = "outlines of fewer than 3 corners (--degenerate skip)"


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
    """Pixels as COCO's compressed run lengths, as pycocotools takes them; they add up to the pixels of the image."""

    encoded: Mapping[str, object]

    @property
    def area_px(self) -> float:
        """Number of pixels."""
        return float(mask_api.area(self.encoded))

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels."""
        target[mask_api.decode(self.encoded) > 0] = value


class Disc(NamedTuple):
    """A filled circle around a point (x, y)."""

    center: tuple[float, float]
    radius_px: float

    @property
    def area_px(self) -> float:
        """Area of the circle."""
        return float(np.pi * self.radius_px**2)

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels of the circle that Pillow draws; of a radius of 0, which it leaves out, the pixel itself."""
        (x, y), radius = self.center, self.radius_px
        drawing = Image.new("1", target.shape[::-1])
        if radius:
            ImageDraw.Draw(drawing).ellipse((x - radius, y - radius, x + radius, y + radius), fill=1, outline=1)
        else:
            ImageDraw.Draw(drawing).point((round(x), round(y)), fill=1)
        target[np.asarray(drawing)] = value


class Line(NamedTuple):
    """A line of some width through points (x, y)."""

    points: NDArray[np.float64]
    width_px: int

    @property
    def area_px(self) -> float:
        """Length times width."""
        return float(self.width_px * np.hypot(*np.diff(self.points, axis=0).T).sum())

    def paint(self, target: NDArray[np.uint8], value: int) -> None:
        """Sets the pixels of the line that Pillow draws."""
        drawing = Image.new("1", target.shape[::-1])
        ImageDraw.Draw(drawing).line(self.points.reshape(-1).tolist(), fill=1, width=self.width_px)
        target[np.asarray(drawing)] = value


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
    return RunLengths(mask_api.merge(mask_api.frPyObjects(flat, *size)))


def read_run_lengths(counts: Sequence[int] | str, size: tuple[int, int]) -> RunLengths:
    """Takes run lengths of an annotation file, column by column, background and object by turns, background first.

    Args:
        counts: The lengths, or a string in COCO's compression.
        size: (height, width) of the image.

    Raises:
        ValueError: They are damaged, or do not add up to the pixels of the image. pycocotools does not look: it leaves
            pixels undefined where lengths are missing, and reads on behind a string that ends within a number.
    """
    if isinstance(counts, str):
        try:
            total = sum(_decompress(counts))
        except ValueError as error:
            raise ValueError(f"the compressed run lengths are damaged: {error}") from error
    else:
        total = sum(counts)
    if total != size[0] * size[1]:
        raise ValueError(
            f"the run lengths add up to {total} pixels, the image has {size[0] * size[1]}; they are damaged or of "
            "another image"
        )
    encoded = {"size": list(size), "counts": counts}
    return RunLengths(encoded if isinstance(counts, str) else mask_api.frPyObjects(encoded, *size))


def _decompress(text: str) -> list[int]:
    """The lengths of a string in COCO's compression.

    A character holds 5 bits, lowest first, and a sixth that says whether the number goes on; numbers are signed, and
    from the fourth on they are differences to the last but one.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"the character {character!r} does not occur in it")
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
    return counts


def lies_outside(points: NDArray[np.floating], size: tuple[int, int]) -> bool:
    """Whether the box around points (x, y) has no part in common with the image."""
    low, high = points.min(axis=0), points.max(axis=0)
    return bool((high < 0).any() or low[0] >= size[1] or low[1] >= size[0])


class ShapeOptions(NamedTuple):
    """How objects become masks.

    Attributes:
        order: Which of two overlapping objects is seen. `file`: the later one; `reversed`: the earlier one; `area`: the
            smaller one; `class`: the one of the higher train id, and an ignored one before all. Of equals, the later.
        background: What pixels that no object covers are: a class of their own, or ignored.
        ignore: Classes whose objects are painted as ignored pixels.
        skip: Classes whose objects are not painted: what is beneath them is seen.
        degenerate: What becomes of outlines of fewer than 3 corners: an error, or left out.
    """

    order: PaintOrder
    background: Background = "class"
    ignore: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    degenerate: Degenerate = "error"

    def settings(self) -> dict[str, object]:
        """The options as plain values."""
        plain = self._asdict()
        if self.degenerate == "error":
            del plain["degenerate"]  # folders of earlier releases do not hold it
        return plain


class ShapePlan(NamedTuple):
    """The classes of a source of objects.

    Attributes:
        table: What a network learns.
        values: Train id, or ignore index, by the class's id in the source.
        skipped: Names of the classes that are not painted, by id.
        background: Value of pixels that no object covers.
        order: Which of two overlapping objects is seen.
        notes: Which classes were made one, for the user.
        degenerate: What becomes of outlines of fewer than 3 corners.
    """

    table: ClassTable
    values: Mapping[int, int]
    skipped: Mapping[int, str]
    background: int
    order: PaintOrder
    notes: tuple[str, ...] = ()
    degenerate: Degenerate = "error"


def plan_shapes(found: Sequence[NamedClass], options: ShapeOptions, source: Path) -> ShapePlan:
    """Numbers the classes of a source of objects, the background first.

    Args:
        found: The classes of the source. Where one is called `background` or `_background_`, it is the background;
            otherwise a class of that name is put in front.
        options: Of the user.
        source: Where the classes stand, for messages.

    Raises:
        ValueError: A name of the options is no class, or ids stand twice.
    """
    found = strip_names(found)
    unknown = sorted(set(options.skip) - {entry.name for entry in found})
    if unknown:
        names = ", ".join(entry.name for entry in found)
        raise ValueError(
            f"classes of {source}: no class is named {', '.join(unknown)} (--skip). Its classes are {names}"
        )
    skipped = {entry.source_id: entry.name for entry in found if entry.name in options.skip}
    painted = [entry for entry in found if entry.name not in options.skip]
    own = next((entry for entry in painted if entry.name in BACKGROUND_NAMES), None)
    if own is None and options.background == "class":
        taken = {entry.source_id for entry in found}
        own = NamedClass(BACKGROUND_NAMES[0], next(number for number in range(len(taken) + 1) if number not in taken))
        painted.insert(0, own)
    plan = plan_classes(painted, options.ignore, source)
    background = plan.train_ids[own.source_id] if own and options.background == "class" else IGNORE_TRAIN_ID
    # A background that was put in front has no id in the source: no object may name it.
    values = {entry.source_id: plan.train_ids[entry.source_id] for entry in painted if entry in found}
    return ShapePlan(plan.table, values, skipped, background, options.order, plan.notes, options.degenerate)


class _Shape(NamedTuple):
    """Pixels and the train id, or ignore index, that they get."""

    value: int
    region: Region


class Canvas:
    """The mask of one image while its objects are collected.

    Args:
        plan: The classes.
        size: (height, width) of the image.
    """

    def __init__(self, plan: ShapePlan, size: tuple[int, int]) -> None:
        self.plan = plan
        self.size = size
        self._shapes: list[_Shape] = []
        self._skipped: Counter[str] = Counter()

    def add(self, class_id: int, region: Region | None) -> None:
        """Adds the next object of the file.

        Args:
            class_id: Its class in the source; must be planned.
            region: Its pixels; None where it lies wholly outside the image.
        """
        if class_id in self.plan.skipped:
            self.skip(f"objects of the class {self.plan.skipped[class_id]!r} (--skip)")
        else:
            self._add(self.plan.values[class_id], region)

    def add_ignored(self, region: Region | None) -> None:
        """Adds an object whose pixels are ignored, whatever its class."""
        self._add(IGNORE_TRAIN_ID, region)

    def _add(self, value: int, region: Region | None) -> None:
        """Adds pixels and their value."""
        if region is None:
            self.skip(OUTSIDE)
        else:
            self._shapes.append(_Shape(value, region))

    def leaves_out(self, corner_count: int) -> bool:
        """Whether an outline has too few corners and is left out, which is counted."""
        degenerate = corner_count < 3 and self.plan.degenerate == "skip"
        if degenerate:
            self.skip(DEGENERATE)
        return degenerate

    def skip(self, reason: str) -> None:
        """Counts an object that is not painted."""
        self._skipped[reason] += 1

    def finish(self) -> PaintedMask:
        """Paints what was added, the object that is to be seen last."""
        mask: NDArray[np.uint8] = np.full(self.size, self.plan.background, np.uint8)
        for shape in self._ordered():
            shape.region.paint(mask, shape.value)
        return PaintedMask(mask, self._skipped)

    def _ordered(self) -> list[_Shape]:
        """The objects from back to front; sorting keeps the order of equals."""
        if self.plan.order == "reversed":
            return self._shapes[::-1]
        if self.plan.order == "area":
            return sorted(self._shapes, key=lambda shape: -shape.region.area_px)
        if self.plan.order == "class":
            return sorted(self._shapes, key=lambda shape: shape.value)
        return self._shapes
