"""Polygon files in Cityscapes' form to masks.

    {"imgHeight": 128, "imgWidth": 256, "objects": [{"label": "road", "polygon": [[0, 64], [255, 64], ...]}, ...]}

Objects are painted in list order, later ones over earlier ones. The synthesis writes this form and makes its masks with
this module; the `label-ids` command does the same for any folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.labels import IGNORE_TRAIN_ID, UNLABELED, LabelDefinition, find_label, label_text, train_id_or_ignore
from dataset_tools.masks import write_mask
from dataset_tools.paths import find_paths
from fasterseg.base.console import tracked
from fasterseg.base.jsonfile import read_json

POLYGON_SUFFIX = "_polygons.json"
Encoding = Literal["train-ids", "ids"]
# Made-up scenes have polygons that pass the edge widely, such as a road that comes from behind the camera.
_REACH = 100
MASK_SUFFIXES: dict[Encoding, str] = {"train-ids": "_labelTrainIds.png", "ids": "_labelIds.png"}


class LabeledPolygon(NamedTuple):
    """An outline in pixels, (x, y) per corner, and the name of its label."""

    label: str
    points: NDArray[np.int32]


class PolygonImage(NamedTuple):
    """The polygons of one image, back to front, and how many its file marks as deleted."""

    height: int
    width: int
    polygons: tuple[LabeledPolygon, ...]
    deleted: int = 0


def fill_polygon(target: NDArray[np.uint8] | NDArray[np.int32], points: NDArray[np.int32], value: int) -> None:
    """Paints one polygon, border included, in place.

    The only place that rasterises: what is rendered and what is labelled cover exactly the same pixels.
    """
    cv2.fillPoly(target, [points.reshape(-1, 1, 2)], value)


def check_points(points: NDArray[np.floating], size: tuple[int, int], place: str, *, reach: float = 1) -> None:
    """Refuses coordinates that cannot belong to an image of that size.

    Tools put corners a little beyond the edge; what is farther out comes from another image or another scale.

    Args:
        points: (x, y) per row, in pixels.
        size: (height, width) of the image.
        place: What the error names.
        reach: How far beyond each edge is allowed, in image sizes.

    Raises:
        ValueError: A coordinate is not finite, or too far out.
    """
    limits = np.array([size[1], size[0]], np.float64)
    wrong = ~np.isfinite(points) | (points < -reach * limits) | (points > (1 + reach) * limits)
    if wrong.any():
        x, y = points[wrong.any(axis=1)][0].tolist()
        raise ValueError(
            f"{place}: the point ({x:g}, {y:g}) is far outside the image of {size[0]}x{size[1]} (height x width); is "
            "it another image, another scale, or are x and y exchanged?"
        )


def read_annotations(path: Path) -> Any:
    """Reads the JSON of an annotation file, UTF-8 or UTF-16.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not JSON.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotation file not found: {path}")
    return read_json(path)


def load_polygons(path: Path) -> PolygonImage:
    """Reads a polygon file.

    Args:
        path: The JSON file.

    Returns:
        Its polygons without those marked as deleted; coordinates are rounded to whole pixels.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is not JSON, or a field is missing or malformed; names the field.
    """
    content = read_annotations(path)
    try:
        height, width, objects = int(content["imgHeight"]), int(content["imgWidth"]), content["objects"]
    except ValueError as error:
        raise ValueError(f"{path}: imgHeight and imgWidth must be whole numbers: {error}") from error
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} lacks the field {error}; expected imgHeight, imgWidth and objects") from error
    if not isinstance(objects, list):
        raise ValueError(f"{path}: objects is no list, found {type(objects).__name__}")
    if height <= 0 or width <= 0:
        raise ValueError(f"{path}: the image size {height}x{width} is not positive")
    read = [_read_object(f"{path}: objects[{number}]", (height, width), item) for number, item in enumerate(objects)]
    polygons = tuple(polygon for polygon in read if polygon is not None)
    return PolygonImage(height, width, polygons, len(read) - len(polygons))


def _read_object(place: str, size: tuple[int, int], item: dict[str, object]) -> LabeledPolygon | None:
    """Reads one object; None when it is marked as deleted."""
    if not isinstance(item, dict) or "label" not in item or "polygon" not in item:
        raise ValueError(f"{place}: expected the fields label and polygon, found {item if item else 'nothing'}")
    label = label_text(item["label"], place)
    if item.get("deleted"):
        return None
    try:
        points = np.asarray(item["polygon"], np.float64)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{place} ({label}): polygon is not a list of [x, y] numbers") from error
    if points.ndim != 2 or points.shape[1:] != (2,):
        raise ValueError(f"{place} ({label}): polygon has the shape {points.shape}, expected (corners, 2)")
    check_points(points, size, f"{place} ({label})", reach=_REACH)
    return LabeledPolygon(label, np.rint(points).astype(np.int32))


def polygons_to_json(image: PolygonImage) -> str:
    """The text of a polygon file."""
    objects = [{"label": polygon.label, "polygon": polygon.points.tolist()} for polygon in image.polygons]
    return json.dumps({"imgHeight": image.height, "imgWidth": image.width, "objects": objects})


def paint_mask(
    image: PolygonImage, labels: Sequence[LabelDefinition], *, encoding: Encoding = "train-ids", source: str = "image"
) -> NDArray[np.uint8]:
    """Paints the polygons of one image as ids.

    Args:
        image: The polygons.
        labels: Definitions of their labels. Labels with a negative id are skipped.
        encoding: Which of the two ids to paint. What no polygon covers is the label "unlabeled": 255 as train id, its
            id (0 without a definition) otherwise.
        source: What errors name.

    Returns:
        Mask, shape (H, W).

    Raises:
        ValueError: Labels without a definition; names all of them.
    """
    found = {polygon.label: find_label(polygon.label, labels) for polygon in image.polygons}
    unknown = sorted(name for name, label in found.items() if label is None)
    if unknown:
        raise ValueError(
            f"{source}: no definition for the labels {', '.join(unknown)}; add them to the label definitions "
            f"(known: {', '.join(label.name for label in labels)})"
        )
    background = find_label(UNLABELED, labels)
    empty = IGNORE_TRAIN_ID if encoding == "train-ids" else background.id if background else 0
    mask = np.full((image.height, image.width), empty, np.uint8)
    for polygon in image.polygons:
        label = found[polygon.label]
        if label is None or label.id < 0:
            continue
        fill_polygon(mask, polygon.points, label.id if encoding == "ids" else train_id_or_ignore(label))
    return mask


def mask_path_of(polygon_path: Path, encoding: Encoding) -> Path:
    """Where a polygon file's mask goes: `X_polygons.json` to `X_labelTrainIds.png` or `X_labelIds.png` next to it."""
    return polygon_path.with_name(polygon_path.name.removesuffix(POLYGON_SUFFIX) + MASK_SUFFIXES[encoding])


class LabelIdsResult(NamedTuple):
    """What `write_label_ids` did."""

    written: int
    kept: int


def write_label_ids(
    root: Path,
    labels: Sequence[LabelDefinition],
    *,
    encoding: Encoding = "train-ids",
    overwrite: bool = False,
    dry_run: bool = False,
    progress: bool = False,
) -> LabelIdsResult:
    """Makes the mask of every polygon file below a folder.

    Args:
        root: The folder; files named `*_polygons.json` are found at any depth.
        labels: Label definitions.
        encoding: Train ids or ids.
        overwrite: Repaint masks that exist; otherwise they are kept.
        dry_run: Paint, but write nothing.
        progress: Show a progress bar.

    Returns:
        How many masks were written and kept.

    Raises:
        FileNotFoundError: The folder does not exist or holds no polygon file.
        ValueError: A file is malformed or uses an unknown label.
    """
    paths = find_paths(root, f"*{POLYGON_SUFFIX}", deep=True)
    if not paths:
        raise FileNotFoundError(f"no files named *{POLYGON_SUFFIX} below {root}")
    todo = [path for path in paths if overwrite or not mask_path_of(path, encoding).exists()]
    for path in tracked(todo, "label-ids", disable=not progress):
        mask = paint_mask(load_polygons(path), labels, encoding=encoding, source=str(path))
        if not dry_run:
            write_mask(mask_path_of(path, encoding), mask)
    return LabelIdsResult(len(todo), len(paths) - len(todo))
