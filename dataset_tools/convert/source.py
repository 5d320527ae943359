"""What a converter hands to `output`: the images of a source, how the mask of each is made, and its classes.

Every format has one module with one function `read_<format>`, which lists the source without reading its images or
masks and returns a `SourceDataset`. Masks are made one at a time, by the `MaskSource` of each image.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_tools.labels import ClassTable, LabelDefinition, find_label
from dataset_tools.masks import Rgb, map_colors, map_ids, read_color_mask, read_mask
from dataset_tools.polygons import load_polygons, paint_mask, read_annotations
from fasterseg.base.images import open_image

Encoding = Literal["index", "color"]


class PaintedMask(NamedTuple):
    """A mask of train ids, shape (H, W), uint8; how many things of which kind were left out; whether it was turned."""

    mask: NDArray[np.uint8]
    skipped: Mapping[str, int] = {}
    turned: bool = False


class MaskSource(Protocol):
    """How the mask of one image is made."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of which the whole content decides the mask."""

    @property
    def facts(self) -> str:
        """What else decides it, as a text that is the same in every run."""

    @property
    def is_drawn(self) -> bool:
        """Whether it is made of outlines, which annotation tools show and draw on the upright picture."""

    def stated_size(self) -> tuple[int, int] | None:
        """(height, width) of the picture that it was made for, where its files say so."""

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Makes the mask.

        Args:
            size: (height, width) of the picture that it was made for.

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
        root: The folder that is read.
        classes: What a network learns.
        splits: The images of each split.
        settings: Plain values that decide the masks, with the names of the command's options.
        skipped: What was left out while listing, with counts, which may be 0.
        notes: What else the user should know of it, one sentence each.
        name: Name of the dataset; the folder's when None.
    """

    tool: str
    root: Path
    classes: ClassTable
    splits: Mapping[str, Sequence[SourceImage]]
    settings: Mapping[str, object] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    name: str | None = None


@dataclass(frozen=True)
class FileMask:
    """A mask that is made of one file."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def facts(self) -> str:
        """All fields but the path."""
        return repr([getattr(self, entry.name) for entry in fields(self) if entry.name != "path"])


class PixelMask(FileMask):
    """A mask that is made of the pixels of one file."""

    is_drawn = False

    def stated_size(self) -> tuple[int, int] | None:
        """The size of the file, from its header."""
        with open_image(self.path, "mask") as image:
            return image.height, image.width


@dataclass(frozen=True)
class IndexMask(PixelMask):
    """A mask file whose pixels are ids."""

    train_ids: Mapping[int, int]

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Maps the ids."""
        mask = read_mask(self.path)
        check_size(self.path, mask.shape, size)
        return PaintedMask(map_ids(mask, self.train_ids, self.path))


@dataclass(frozen=True)
class ColorMask(PixelMask):
    """A mask file whose pixels are colours."""

    train_ids: Mapping[Rgb, int]

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Maps the colours."""
        pixels = read_color_mask(self.path)
        check_size(self.path, pixels.shape, size)
        return PaintedMask(map_colors(pixels, self.train_ids, self.path))


@dataclass(frozen=True)
class PolygonMask(FileMask):
    """A polygon file in Cityscapes' form, painted in the order of its list."""

    labels: tuple[LabelDefinition, ...]
    is_drawn: ClassVar[bool] = True

    def stated_size(self) -> tuple[int, int] | None:
        """What the file says."""
        image = load_polygons(self.path)
        return image.height, image.width

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the polygons."""
        image = load_polygons(self.path)
        check_size(self.path, (image.height, image.width), size)
        skipped = Counter({"objects marked as deleted": image.deleted} if image.deleted else {})
        for polygon in image.polygons:
            label = find_label(polygon.label, self.labels)
            if label is not None and label.id < 0:
                skipped[f"objects of the label {label.name!r}, whose id is below 0"] += 1
        return PaintedMask(paint_mask(image, self.labels, source=str(self.path)), skipped)


@dataclass(frozen=True)
class BlankMask:
    """The mask of an image that shows nothing but one class.

    Attributes:
        value: Train id, or the ignore index, of all of its pixels.
        reason: What is counted for each such image.
    """

    value: int
    reason: str
    files: ClassVar[tuple[Path, ...]] = ()
    is_drawn: ClassVar[bool] = True

    @property
    def facts(self) -> str:
        """The value."""
        return f"blank {self.value}"

    def stated_size(self) -> tuple[int, int] | None:
        """None: it fits every image."""
        return None

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Sets all pixels."""
        return PaintedMask(np.full(size, self.value, np.uint8), {self.reason: 1})


def check_size(path: Path, found: tuple[int, ...], size: tuple[int, int]) -> None:
    """Refuses a mask of another size than its image.

    Raises:
        ValueError: Names both sizes.
    """
    if found[:2] != size:
        raise ValueError(
            f"image and mask differ in size (height x width): {path} is {found[0]}x{found[1]}, its image is "
            f"{size[0]}x{size[1]}; they must be equal"
        )


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads an annotation file that holds one JSON object.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not JSON, or holds something else.
    """
    content = read_annotations(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


def stated_size(height: object, width: object, place: str) -> tuple[int, int]:
    """The size of an image as an annotation file says it: whole numbers, also as text.

    Raises:
        ValueError: They are something else.
    """
    try:
        size = (float(str(height)), float(str(width)))
        if size[0] < 1 or size[1] < 1 or not (size[0].is_integer() and size[1].is_integer()):
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{place}: the image size (height x width) is {height}x{width}, expected whole numbers"
        ) from None
    return int(size[0]), int(size[1])
