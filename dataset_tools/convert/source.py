"""What a converter hands to `output`: the images of a source, how the mask of each is made, and its classes.

Every format has one module with one function `read_<format>`, which lists the source without reading its images or
masks and returns a `SourceDataset`. Masks are made one at a time, by the `MaskSource` of each image.

Images and masks are paired by their exact names, never by a part of one: `route_1` does not get the mask of `route_10`,
and an image without a mask is named instead of getting its neighbour's.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable, LabelDefinition, find_label
from dataset_tools.masks import Rgb, distinct_colors, map_colors, map_ids, read_color_mask, read_mask
from dataset_tools.polygons import load_polygons, paint_mask
from fasterseg.base.errors import list_problems

Encoding = Literal["index", "color"]
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_STANDARD_SPLITS = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}


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
        root: The folder that is read.
        classes: What a network learns.
        splits: The images of each split.
        settings: Plain values that decide the masks, with the names of the command's options.
        skipped: What was left out while listing, with counts, which may be 0.
        name: Name of the dataset; the folder's when None.
    """

    tool: str
    root: Path
    classes: ClassTable
    splits: Mapping[str, Sequence[SourceImage]]
    settings: Mapping[str, object] = field(default_factory=dict)
    skipped: Mapping[str, int] = field(default_factory=dict)
    name: str | None = None


@dataclass(frozen=True)
class FileMask:
    """A mask that is made of one file."""

    path: Path

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)


@dataclass(frozen=True)
class IndexMask(FileMask):
    """A mask file whose pixels are ids."""

    train_ids: Mapping[int, int]

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Maps the ids."""
        mask = read_mask(self.path)
        check_size(self.path, mask.shape, size)
        return PaintedMask(map_ids(mask, self.train_ids, self.path))


@dataclass(frozen=True)
class ColorMask(FileMask):
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


class NamedFiles(NamedTuple):
    """Files of one kind by name: the path below their folder, without suffix and ending, with "/" between folders."""

    kind: str
    folder: Path
    by_name: Mapping[str, Path]


def find_files(kind: str, folder: Path, endings: Sequence[str], problems: list[str], *, suffix: str = "") -> NamedFiles:
    """Lists the files of one kind in a folder, at any depth.

    Args:
        kind: What they are, for messages: `image` or `mask`.
        folder: Where to look; must exist.
        endings: Endings of the files, in lower case.
        problems: Two files of one name are added here.
        suffix: What names end in before their ending, and is not part of the name; other files are left out.

    Returns:
        The files by name, in the order of their names. Hidden files are left out.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or path.suffix.lower() not in endings or not path.stem.endswith(suffix) or not path.is_file():
            continue
        name = relative.with_name(path.stem.removesuffix(suffix) or path.stem).as_posix()
        if name in found:
            problems.append(f"two {kind}s of one name: {found[name]} and {path}")
        found[name] = path
    return NamedFiles(kind, folder, found)


def match(
    images: NamedFiles, masks: NamedFiles, make: Callable[[Path], MaskSource], problems: list[str]
) -> list[SourceImage]:
    """Pairs images and masks of the same name.

    Args:
        images: The images.
        masks: The files of the masks.
        make: Gives how the mask of a file is made.
        problems: What does not match is added here.
    """
    missing, surplus = unmatched(images, masks)
    problems.extend(f"no {masks.kind} for {images.by_name[name]}" for name in missing)
    problems.extend(f"no {images.kind} for {masks.by_name[name]}" for name in surplus)
    if not images.by_name:
        problems.append(f"no {images.kind}s in {images.folder}")
    both = [name for name in images.by_name if name in masks.by_name]
    return [SourceImage(name, images.by_name[name], make(masks.by_name[name])) for name in both]


def unmatched(images: NamedFiles, masks: NamedFiles) -> tuple[list[str], list[str]]:
    """Names of images without a mask, and of masks without an image."""
    return sorted(images.by_name.keys() - masks.by_name.keys()), sorted(masks.by_name.keys() - images.by_name.keys())


def pair_folders(
    images: Path,
    masks: Path,
    make: Callable[[Path], MaskSource],
    problems: list[str],
    *,
    suffixes: tuple[str, str] = ("", ""),
    mask_endings: Sequence[str] = (".png",),
) -> list[SourceImage]:
    """Finds and pairs the files of an image folder and a mask folder.

    Args:
        images: The folder of the images.
        masks: The folder of the masks.
        make: Gives how the mask of a file is made.
        problems: What does not match is added here.
        suffixes: What the names of images, and those of masks, end in before their ending.
        mask_endings: Endings of the masks.
    """
    found = find_files("image", images, IMAGE_ENDINGS, problems, suffix=suffixes[0])
    return match(found, find_files("mask", masks, mask_endings, problems, suffix=suffixes[1]), make, problems)


def images_alone(folder: Path, problems: list[str], *, suffix: str = "") -> list[SourceImage]:
    """The images of a folder whose masks are not public."""
    found = find_files("image", folder, IMAGE_ENDINGS, problems, suffix=suffix)
    return [SourceImage(name, path, None) for name, path in found.by_name.items()]


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, in the order of their names."""
    return sorted(path for path in folder.iterdir() if path.is_dir())


def standard_split(name: str) -> str:
    """`training` to `train`, `validation` and `valid` to `val`, `testing` to `test`; other names stay."""
    return _STANDARD_SPLITS.get(name, name)


def refuse(problems: Sequence[str], source: Path) -> None:
    """Raises what was found wrong with the files of a source, if anything was.

    Raises:
        ValueError: Names the problems.
    """
    if problems:
        raise ValueError(f"{source}: images and masks do not match:{list_problems(problems)}")


def need_folders(folders: Sequence[Path], what: str) -> None:
    """Checks that folders exist.

    Raises:
        FileNotFoundError: Names all that are missing, and what was expected.
    """
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileNotFoundError(f"missing {', '.join(missing)}; expected {what}")


def read_json_object(path: Path) -> dict[str, Any]:
    """Reads an annotation file that holds one JSON object.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not JSON, or holds something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotation file not found: {path}")
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}; it is damaged or cut off") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a JSON {type(content).__name__}, expected an object")
    return content


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
