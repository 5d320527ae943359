"""What a converter hands to `output`: the images of a source, how the mask of each is made, and its classes.

Every format has one module with one function `read_<format>`, which lists the source without reading its images or
masks and returns a `SourceDataset`. Masks are made one at a time, by the `MaskSource` of each image.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable, LabelDefinition, find_label
from dataset_tools.masks import Rgb, distinct_colors, map_colors, map_ids, read_color_mask, read_mask
from dataset_tools.polygons import load_polygons, paint_mask

Encoding = Literal["index", "color"]


class PaintedMask(NamedTuple):
    """A mask of train ids, shape (H, W), uint8, and how many things of which kind were left out of it."""

    mask: NDArray[np.uint8]
    skipped: Mapping[str, int] = {}


class MaskSource(Protocol):
    """How the mask of one image is made."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files it is made of: a mask older than one of them is made again."""

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Makes the mask.

        Args:
            size: (height, width) of the image.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A file is malformed, or holds something that the source does not define.
        """


class SourceImage(NamedTuple):
    """One image of a source, how its mask is made (None: it has none), and the name both get in the output."""

    name: str
    image: Path
    mask: MaskSource | None


@dataclass(frozen=True)
class SourceDataset:
    """A source, listed.

    Attributes:
        tool: The command, as the user types it after `python -m dataset_tools`.
        name: Name of the dataset.
        root: The folder that is read.
        classes: What a network learns.
        splits: The images of each split.
        settings: Plain values that decide the masks, with the names of the command's options.
        skipped: What was left out while listing, with counts.
    """

    tool: str
    name: str
    root: Path
    classes: ClassTable
    splits: Mapping[str, Sequence[SourceImage]]
    settings: Mapping[str, object] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)


class IndexMask(NamedTuple):
    """A mask file whose pixels are ids."""

    path: Path
    train_ids: Mapping[int, int]

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask file."""
        return (self.path,)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Maps the ids."""
        mask = read_mask(self.path)
        _check_size(mask, size, self.path)
        return PaintedMask(map_ids(mask, self.train_ids, self.path))


class ColorMask(NamedTuple):
    """A mask file whose pixels are colours."""

    path: Path
    train_ids: Mapping[Rgb, int]

    @property
    def files(self) -> tuple[Path, ...]:
        """The mask file."""
        return (self.path,)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Maps the colours."""
        pixels = read_color_mask(self.path)
        _check_size(pixels, size, self.path)
        return PaintedMask(map_colors(pixels, self.train_ids, self.path))


class PolygonMask(NamedTuple):
    """A polygon file in Cityscapes' form, painted in the order of its list."""

    path: Path
    labels: tuple[LabelDefinition, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """The polygon file."""
        return (self.path,)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the polygons."""
        image = load_polygons(self.path)
        if (image.height, image.width) != size:
            raise ValueError(wrong_size(self.path, (image.height, image.width), size))
        skipped = Counter({"objects marked as deleted": image.deleted} if image.deleted else {})
        for polygon in image.polygons:
            label = find_label(polygon.label, self.labels)
            if label is not None and label.id < 0:
                skipped[f"objects of the label {label.name!r}, whose id is below 0"] += 1
        return PaintedMask(paint_mask(image, self.labels, source=str(self.path)), skipped)


def _check_size(mask: NDArray[np.integer], size: tuple[int, int], path: Path) -> None:
    """Refuses a mask of another size than its image."""
    if mask.shape[:2] != size:
        raise ValueError(wrong_size(path, mask.shape, size))


def wrong_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> str:
    """What is said of a mask of another size than its image."""
    return (
        f"image and mask differ in size (height x width): {path} is {found[0]}x{found[1]}, its image is "
        f"{size[0]}x{size[1]}; they must be equal"
    )


class NamedClass(NamedTuple):
    """A class of a source that names its classes: its id there, and its colour where the source gives one."""

    name: str
    source_id: int
    color: Rgb | None = None


class ClassPlan(NamedTuple):
    """The classes of a source that names its classes, less those that the user ignores.

    Attributes:
        table: What a network learns.
        train_ids: Train id, or 255 for an ignored class, by the class's id in the source.
    """

    table: ClassTable
    train_ids: Mapping[int, int]

    @property
    def by_name(self) -> Mapping[str, int]:
        """Train id of each class by its name."""
        return {name: train_id for train_id, name in enumerate(self.table.names)}


def plan_classes(found: Sequence[NamedClass], ignored: Iterable[str], source: Path) -> ClassPlan:
    """Numbers the classes of a source in its order, without gaps.

    Args:
        found: The classes of the source.
        ignored: Names of classes whose pixels become the ignore index.
        source: Where the classes stand, for messages.

    Raises:
        ValueError: An ignored name is no class, a name or an id stands twice, or too many or no classes are left.
    """
    ignored = set(ignored)
    names = [entry.name for entry in found]
    ids = [entry.source_id for entry in found]
    problems = [f"no class is named {name!r} (--ignore)" for name in sorted(ignored - set(names))]
    problems += [
        f"the name {name!r} stands twice" for name in sorted({name for name in names if names.count(name) > 1})
    ]
    problems += [
        f"the id {number} stands twice" for number in sorted({number for number in ids if ids.count(number) > 1})
    ]
    kept = [entry for entry in found if entry.name not in ignored]
    if not 1 <= len(kept) <= IGNORE_TRAIN_ID:
        problems.append(
            f"{len(kept)} classes are left, expected 1 to {IGNORE_TRAIN_ID}; ignore some with --ignore NAME"
        )
    if problems:
        raise ValueError(f"classes of {source}: " + "; ".join(problems) + f". Its classes are {', '.join(names)}")
    train_ids = dict.fromkeys(ids, IGNORE_TRAIN_ID) | {entry.source_id: number for number, entry in enumerate(kept)}
    table = ClassTable(tuple(entry.name for entry in kept), _colors_of(kept), tuple(entry.source_id for entry in kept))
    return ClassPlan(table, train_ids)


def _colors_of(classes: Sequence[NamedClass]) -> tuple[Rgb, ...]:
    """The colours of the source; classes without one get one that no other has."""
    given = [entry.color for entry in classes if entry.color is not None]
    free = iter(distinct_colors(len(classes), given))
    return tuple(next(free) if entry.color is None else entry.color for entry in classes)
