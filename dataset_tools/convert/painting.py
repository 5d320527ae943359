"""Objects to a mask: the one place of the converters that decides which of two overlapping objects is seen.

A format module plans its classes with `plan_shapes` and gives the objects of an image to a `Canvas`, which paints them
in the order that the user chose. Regions (`regions`) hold what they need to be painted, not their pixels, so that a
crowded image needs the memory of one object at a time.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_tools.convert.regions import Region
from dataset_tools.convert.source import NamedClass, PaintedMask, plan_classes
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable

PaintOrder = Literal["file", "reversed", "area", "class"]
Background = Literal["class", "ignore"]

BACKGROUND_NAMES = ("background", "_background_")
OUTSIDE = "objects that lie wholly outside their image"


class ShapeOptions(NamedTuple):
    """How objects become masks.

    Attributes:
        order: Which of two overlapping objects is seen. `file`: the later one; `reversed`: the earlier one; `area`: the
            smaller one; `class`: the one of the higher train id, and an ignored one before all. Of equals, the later.
        background: What pixels that no object covers are: a class of their own, or ignored.
        ignore: Classes whose objects are painted as ignored pixels.
        skip: Classes whose objects are not painted: what is beneath them is seen.
    """

    order: PaintOrder
    background: Background = "class"
    ignore: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()

    def settings(self) -> dict[str, object]:
        """The options as plain values."""
        return {"order": self.order, "background": self.background, "ignore": self.ignore, "skip": self.skip}


class ShapePlan(NamedTuple):
    """The classes of a source of objects.

    Attributes:
        table: What a network learns.
        values: Train id, or ignore index, by the class's id in the source.
        skipped: Names of the classes that are not painted, by id.
        background: Value of pixels that no object covers.
        order: Which of two overlapping objects is seen.
    """

    table: ClassTable
    values: Mapping[int, int]
    skipped: Mapping[int, str]
    background: int
    order: PaintOrder


def plan_shapes(found: Sequence[NamedClass], options: ShapeOptions, source: Path) -> ShapePlan:
    """Numbers the classes of a source of objects, the background first.

    Args:
        found: The classes of the source. Where one is called `background` or `_background_`, it is the background;
            otherwise a class of that name is put in front.
        options: Of the user.
        source: Where the classes stand, for messages.

    Raises:
        ValueError: A name of the options is no class, or names or ids stand twice.
    """
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
    return ShapePlan(plan.table, values, skipped, background, options.order)


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
