"""labelme's JSON files to a dataset folder, all shape types.

One JSON file per image: shapes: [{label, points: [[x, y], ...], shape_type, mask}], imagePath, imageHeight, imageWidth.
imagePath is relative to the file and holds backslashes where it was written on Windows. The labels `__ignore__` and
`_background_` are the ignore index and the background, as in labelme's own examples.

Source: the documentation and file format of labelme (github.com/wkentaro/labelme).
"""

import base64
import binascii
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dataset_tools.convert.classes import NamedClass
from dataset_tools.convert.painting import (
    BACKGROUND_NAMES,
    Canvas,
    Disc,
    Line,
    Outline,
    Patch,
    Region,
    ShapeOptions,
    ShapePlan,
    lies_outside,
    plan_shapes,
)
from dataset_tools.convert.pairing import Pairing, Unmatched, standard_split
from dataset_tools.convert.source import (
    FileMask,
    PaintedMask,
    SourceDataset,
    SourceImage,
    read_json_object,
    stated_size,
)
from dataset_tools.labels import label_text
from dataset_tools.paths import IMAGE_ENDINGS, find_paths
from dataset_tools.polygons import check_points, read_annotations
from fasterseg.base.errors import list_problems
from fasterseg.base.images import check_pixels

IGNORE_LABEL = "__ignore__"
LABELME_OPTIONS = ShapeOptions(order="file")
_SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "test", "testing")
# How many points each shape type has: exactly, or at least where the second number is None.
_POINTS: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "rectangle": (2, 2),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "mask": (2, 2),
}


class LineWidths(NamedTuple):
    """How thick shapes without an area are painted; labelme's own values by default."""

    line_width_px: float = 10
    point_radius_px: float = 5


@dataclass(frozen=True)
class LabelmeMask(FileMask):
    """The shapes of one JSON file."""

    plan: ShapePlan
    class_ids: Mapping[str, int]
    widths: LineWidths
    is_drawn: ClassVar[bool] = True

    def stated_size(self) -> tuple[int, int] | None:
        """What the file says."""
        return _stated_size(read_json_object(self.path), self.path)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the shapes."""
        content = read_json_object(self.path)
        stated = _stated_size(content, self.path)
        if stated is not None and stated != size:
            raise ValueError(
                f"{self.path}: imageHeight x imageWidth is {stated[0]}x{stated[1]}, but the image is "
                f"{size[0]}x{size[1]}; it was resized, or is stored turned with an orientation tag"
            )
        canvas = Canvas(self.plan, size)
        for number, shape in enumerate(content["shapes"]):
            label = label_text(shape.get("label"), f"{self.path}: shapes[{number}]")
            place = f"{self.path}: shapes[{number}] ({label})"
            points = shape.get("points")
            is_outline = (shape.get("shape_type") or "polygon") == "polygon" and isinstance(points, list)
            if is_outline and canvas.leaves_out(len(points)):
                continue
            region = read_shape(shape, size, self.widths, place)
            if label == IGNORE_LABEL:
                canvas.add_ignored(region)
            elif (name := label if label in self.class_ids else label.strip()) in self.class_ids:
                canvas.add(self.class_ids[name], region)
            else:
                known = ", ".join(self.class_ids)
                raise ValueError(f"{place}: no class of this name (known: {known}); add it to the labels")
        return canvas.finish()


def _stated_size(content: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
    """The size of the image that a file states, where it does."""
    height, width = content.get("imageHeight"), content.get("imageWidth")
    return None if height is None or width is None else stated_size(height, width, f"{path}: imageHeight, imageWidth")


def read_shape(shape: Mapping[str, Any], size: tuple[int, int], widths: LineWidths, place: str) -> Region | None:
    """Reads one shape.

    Args:
        shape: The JSON object.
        size: (height, width) of the image.
        widths: How thick lines and points are.
        place: What errors name.

    Returns:
        Its pixels; None where it lies wholly outside the image. Polygons and rectangles, rounded to whole pixels,
        include their border. A circle is given by its centre and a point on it; circles, points and lines have the
        pixels that labelme's own `shape_to_mask` gives them, lines a width in whole pixels.

    Raises:
        ValueError: The type is unknown, or its points are malformed or far outside the image.
    """
    kind = shape.get("shape_type") or "polygon"
    if kind not in _POINTS:
        raise ValueError(f"{place}: shape_type {kind!r} is unknown; known are {', '.join(_POINTS)}")
    points = _read_points(shape, kind, place)
    check_points(points, size, place)
    if kind == "mask":
        return _read_mask(shape, points, place)
    if kind in ("circle", "point"):
        x, y = points[0].tolist()
        return Disc((x, y), widths.point_radius_px if kind == "point" else float(np.hypot(*(points[1] - points[0]))))
    if kind in ("line", "linestrip"):
        return Line(points, max(1, round(widths.line_width_px)))
    if lies_outside(points, size):
        return None
    corners = np.rint(points).astype(np.int32)
    if kind == "rectangle":
        (x1, y1), (x2, y2) = corners.tolist()
        corners = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]], np.int32)
    return Outline(corners)


def _read_points(shape: Mapping[str, Any], kind: str, place: str) -> NDArray[np.float64]:
    """The points of a shape, (points, 2)."""
    low, high = _POINTS[kind]
    try:
        points = np.asarray(shape.get("points"), np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place}: points is not a list of [x, y] numbers") from error
    if points.ndim != 2 or points.shape[1] != 2 or not low <= len(points) <= (high or len(points)):
        expected = f"{low} points" if high == low else f"{low} or more points"
        raise ValueError(f"{place}: points has the shape {points.shape}, a {kind} has {expected} [x, y]")
    return points


def _read_mask(shape: Mapping[str, Any], points: NDArray[np.float64], place: str) -> Patch:
    """The pixels of a shape of the type mask: a PNG in base64 at the first of its two points."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(shape.get("mask") or "", validate=True))) as image:
            check_pixels((image.height, image.width), f"{place}: mask")
            pixels = _object_pixels(image)
    except (binascii.Error, TypeError, UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{place}: mask is no PNG in base64 ({error})") from error
    left, top, right, bottom = np.rint(points).astype(int).reshape(-1).tolist()
    if pixels.shape != (bottom - top + 1, right - left + 1):
        raise ValueError(
            f"{place}: mask has {pixels.shape[0]}x{pixels.shape[1]} pixels (height x width), but its two points span "
            f"{bottom - top + 1}x{right - left + 1}; they must be equal"
        )
    return Patch(pixels, left, top)


def _object_pixels(image: Image.Image) -> NDArray[np.bool_]:
    """Where a mask is not 0: the index of a palette image, whatever its colour; what is transparent is not seen."""
    values = np.asarray(image)
    if image.mode in ("LA", "RGBA"):
        return np.asarray((values[..., :-1] != 0).any(axis=-1) & (values[..., -1] != 0))
    return np.asarray(values != 0 if values.ndim == 2 else (values != 0).any(axis=-1))


def read_labelme(
    source: Path,
    *,
    labels: Sequence[str] | None = None,
    options: ShapeOptions = LABELME_OPTIONS,
    widths: LineWidths | None = None,
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a folder of labelme's files.

    Args:
        source: The folder; JSON files are found at any depth. Folders `train`, `val`, `test` right below it are splits;
            without them, all images are `train`.
        labels: Names of the classes in the order of their train ids; all labels of the files, sorted, when not given.
        options: How shapes become masks. By default the later one of two overlapping shapes is seen, and pixels without
            a shape are a class `background` with the train id 0.
        widths: How thick lines and points are painted.
        unmatched: What becomes of files whose image is not found: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: There are no JSON files.
        ValueError: Files cannot be read, or their images are not found; names all of them.
    """
    widths = widths or LineWidths()
    skipped: Counter[str] = Counter()
    files = _list_files(source, skipped, unmatched)
    skipped["images without a JSON file"] += len(_list_images(source) - {file.image.resolve() for file in files})
    found = labels if labels is not None else sorted({label for file in files for label in file.labels})
    names = sorted((name for name in found if name != IGNORE_LABEL), key=lambda name: name not in BACKGROUND_NAMES)
    class_ids = {name: number for number, name in enumerate(names)}
    plan = plan_shapes([NamedClass(name, number) for number, name in enumerate(names)], options, source)
    splits: dict[str, list[SourceImage]] = {}
    for file in files:
        split, name = _place(file.path.relative_to(source))
        mask = LabelmeMask(file.path, plan, class_ids, widths)
        splits.setdefault(split, []).append(SourceImage(name, file.image, mask))
    return SourceDataset(
        "convert labelme", source, plan.table, splits, {**options.settings(), **widths._asdict()}, +skipped, plan.notes
    )


def _place(file: Path) -> tuple[str, str]:
    """The split and the name of a file, by its path below the source."""
    folder, *below = file.with_suffix("").parts
    if below and folder in _SPLIT_FOLDERS:
        return standard_split(folder), str(PurePosixPath(*below))
    return "train", str(PurePosixPath(folder, *below))


class _LabelmeFile(NamedTuple):
    """A file, its image, and the labels that it uses."""

    path: Path
    image: Path
    labels: frozenset[str]


def _list_files(source: Path, skipped: Counter[str], unmatched: Unmatched) -> list[_LabelmeFile]:
    """Reads the labels and image of every file; their shapes are read again when their mask is painted."""
    paths = find_paths(source, "*.json", deep=True)
    if not paths:
        raise FileNotFoundError(f"no JSON files below {source}")
    files, pairing = [], Pairing(unmatched)
    for path in paths:
        try:
            content = read_annotations(path)
            if not isinstance(content, dict) or "shapes" not in content:
                skipped["JSON files without shapes"] += 1
                continue
            labels = frozenset(
                label_text(shape["label"], f"{path}: shapes[{number}]")
                for number, shape in enumerate(content["shapes"])
            )
            image = _find_image(path, content, skipped)
            if image is None:
                pairing.lacks("files without their image", _lost_image(path, content))
            else:
                files.append(_LabelmeFile(path, image, labels))
        except (TypeError, KeyError) as error:
            pairing.problems.append(f"{path}: shapes must hold objects with a label ({error!r})")
        except (ValueError, FileNotFoundError) as error:
            pairing.problems.append(str(error))
    skipped.update(pairing.skipped)
    if pairing.problems:
        raise ValueError(f"{source}: files of labelme that cannot be converted:{list_problems(pairing.problems)}")
    if not files:
        raise FileNotFoundError(f"none of the {len(paths)} JSON files below {source} has shapes; is it labelme's form?")
    return files


def _list_images(source: Path) -> set[Path]:
    """All images below a folder."""
    return {path.resolve() for path in find_paths(source, "*", deep=True) if path.suffix.lower() in IMAGE_ENDINGS}


def _find_image(path: Path, content: Mapping[str, Any], skipped: Counter[str]) -> Path | None:
    """The image of a file: where imagePath says, or of that name right beside the file, which is counted; or none."""
    stated = content.get("imagePath")
    if not isinstance(stated, str) or not stated:
        raise ValueError(f"{path}: imagePath is {stated!r}, expected the path of the image")
    relative = PurePosixPath(stated.replace("\\", "/"))
    for candidate in (path.parent / relative, path.parent / relative.name):
        if candidate.is_file():
            if candidate.parent != (path.parent / relative).parent:
                skipped["stale imagePaths: the image of that name beside the file was taken"] += 1
            return candidate
    return None


def _lost_image(path: Path, content: Mapping[str, Any]) -> str:
    """What the error says of a file whose image is not found."""
    return (
        f"{path}: image {content['imagePath']!r} not found, neither there nor beside the file; put it beside "
        "(imageData is not read), or leave such files out with --unmatched skip"
    )
