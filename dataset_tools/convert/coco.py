"""COCO's instance annotations (polygons, and run lengths in both forms) and its panoptic ones to a dataset folder.

    images: [{id, file_name, height, width}], categories: [{id, name}],
    annotations: [{image_id, category_id, segmentation, iscrowd}]

`segmentation` is a list of polygons [x1, y1, x2, y2, ...], or {size: [height, width], counts}, column by column with
the background first; counts is a list of numbers, or a string in COCO's compression. Category ids have gaps; the
classes get train ids in the order of the category ids.

The panoptic form, `panoptic_<name>.json`, has one annotation per image: {image_id, file_name, segments_info: [{id,
category_id, iscrowd}]} with the PNG panoptic_<name>/<file_name>, whose pixels are R + 256 G + 65536 B = id. Every pixel
belongs to one segment, so nothing overlaps; id 0 is unlabelled and becomes the ignore index.

Source: the data format page of the COCO dataset (Lin et al., ECCV 2014); Kirillov et al., "Panoptic segmentation", CVPR
2019.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dataset_tools.convert.painting import (
    Canvas,
    RunLengths,
    ShapeOptions,
    ShapePlan,
    lies_outside,
    plan_shapes,
    read_run_lengths,
    trace_polygons,
)
from dataset_tools.convert.source import (
    FileMask,
    MaskSource,
    NamedClass,
    PaintedMask,
    SourceDataset,
    SourceImage,
    check_size,
    plan_classes,
    read_json_object,
    standard_split,
)
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable
from dataset_tools.masks import color_codes, read_color_mask
from dataset_tools.polygons import check_points

Crowd = Literal["paint", "ignore", "skip"]
COCO_OPTIONS = ShapeOptions(order="area")
_YEAR = re.compile(r"\d{4}$")
_Json = Mapping[str, Any]


class CocoSplit(NamedTuple):
    """One annotation file and the folder that its file names are relative to."""

    annotations: Path
    images: Path


@dataclass(frozen=True)
class CocoMask(FileMask):
    """The annotations of one image."""

    image: _Json
    annotations: Sequence[_Json]
    plan: ShapePlan
    crowd: Crowd

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the annotations."""
        check_image_entry(self.path, self.image, size)
        canvas = Canvas(self.plan, size)
        for annotation in self.annotations:
            self._add(canvas, annotation)
        if not self.annotations:
            canvas.skip("images without annotations: all background")
        return canvas.finish()

    def _add(self, canvas: Canvas, annotation: _Json) -> None:
        """Adds one annotation."""
        place = f"{self.path}: annotation {annotation.get('id', '?')} of {self.image['file_name']}"
        category: Any = annotation.get("category_id")
        if category not in self.plan.values and category not in self.plan.skipped:
            raise ValueError(f"{place}: category_id {category!r} is none of the categories")
        segmentation = annotation.get("segmentation")
        if not segmentation:
            canvas.skip("annotations without a segmentation, such as boxes alone")
        elif annotation.get("iscrowd") and self.crowd == "skip":
            canvas.skip("crowd annotations (--crowd skip)")
        elif annotation.get("iscrowd") and self.crowd == "ignore":
            canvas.add_ignored(read_segmentation(segmentation, canvas.size, place))
        else:
            canvas.add(category, read_segmentation(segmentation, canvas.size, place))


class PanopticMask(NamedTuple):
    """The PNG of one image and what its ids are."""

    file: Path
    png: Path
    image: _Json
    segments: Sequence[_Json]
    train_ids: Mapping[int, int]
    crowd: Crowd

    @property
    def files(self) -> tuple[Path, ...]:
        """The PNG and the annotation file."""
        return (self.png, self.file)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Replaces segment ids by train ids."""
        check_image_entry(self.file, self.image, size)
        skipped: Counter[str] = Counter()
        values = {0: IGNORE_TRAIN_ID}
        for segment in self.segments:
            category: Any = segment.get("category_id")
            if category not in self.train_ids:
                raise ValueError(f"{self.file}: {self.png.name}: category_id {category!r} is none of the categories")
            ignored = bool(segment.get("iscrowd")) and self.crowd != "paint"
            skipped[f"crowd segments, ignored (--crowd {self.crowd})"] += ignored
            values[segment["id"]] = IGNORE_TRAIN_ID if ignored else self.train_ids[category]
        # Red is the lowest byte of an id.
        found = color_codes(read_color_mask(self.png)[..., ::-1])
        check_size(self.png, found.shape, size)
        ids, inverse = np.unique(found, return_inverse=True)
        unknown = [number for number in ids.tolist() if number not in values]
        if unknown:
            raise ValueError(
                f"{self.png} holds the ids {unknown[:8]}, which segments_info in {self.file} does not name"
            )
        table = np.array([values[number] for number in ids.tolist()], np.uint8)
        return PaintedMask(table[inverse.reshape(size)], +skipped)


def check_image_entry(file: Path, image: _Json, size: tuple[int, int]) -> None:
    """Checks that an image has the size that its entry gives.

    Raises:
        ValueError: It has another one.
    """
    stated = (image.get("height"), image.get("width"))
    if stated != size:
        raise ValueError(
            f"{file}: image {image['file_name']} is {stated[0]}x{stated[1]} (height x width) there, but the file is "
            f"{size[0]}x{size[1]}; it was resized, or is stored turned with an orientation tag"
        )


def read_segmentation(segmentation: Any, size: tuple[int, int], place: str) -> RunLengths | None:
    """Reads a segmentation in any of its three forms.

    Args:
        segmentation: The value of the field.
        size: (height, width) of the image.
        place: What errors name.

    Returns:
        The pixels; None where all polygons lie wholly outside the image.

    Raises:
        ValueError: It is malformed, of another size, or reaches far outside the image.
    """
    if isinstance(segmentation, Mapping):
        return _read_run_lengths(segmentation, size, place)
    if not isinstance(segmentation, list):
        raise ValueError(f"{place}: segmentation is {type(segmentation).__name__}, expected polygons or run lengths")
    polygons = []
    for number, flat in enumerate(segmentation):
        try:
            points = np.asarray(flat, np.float64)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{place}: polygon {number} is not a list of numbers") from error
        if points.ndim != 1 or points.size < 6 or points.size % 2:
            raise ValueError(
                f"{place}: polygon {number} has {points.size} numbers, expected x and y of 3 or more corners, one list"
            )
        points = points.reshape(-1, 2)
        check_points(points, size, f"{place}: polygon {number}")
        if not lies_outside(points, size):
            polygons.append(points)
    return trace_polygons(polygons, size) if polygons else None


def _read_run_lengths(encoded: _Json, size: tuple[int, int], place: str) -> RunLengths:
    """Reads run lengths in either form."""
    stated = encoded.get("size")
    counts: Any = encoded.get("counts")
    if stated != list(size):
        raise ValueError(f"{place}: run lengths of the size {stated}, the image is {list(size)} (height, width)")
    is_list = isinstance(counts, list) and all(isinstance(count, int) and count >= 0 for count in counts)
    if not is_list and not isinstance(counts, str):
        raise ValueError(f"{place}: counts is {counts!r:.40}, expected a list of lengths or a string")
    try:
        return read_run_lengths(counts, size)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error


def find_splits(source: Path, given: Mapping[str, CocoSplit], kind: str = "instances") -> dict[str, CocoSplit]:
    """The annotation files of a source and their images.

    Args:
        source: The folder.
        given: Splits that the user names; used as they are where there are any.
        kind: First word of the annotation files.

    Returns:
        By split: `annotations/instances_<name>.json` with the images in `<name>`, `images/<name>` or `images`, and
        `<name>/_annotations.coco.json` with the images beside it. A year at the end of a name is left out.

    Raises:
        FileNotFoundError: There are none, or their images are not found.
    """
    if given:
        return dict(given)
    found = {}
    for file in sorted((source / "annotations").glob(f"{kind}_*.json")):
        name = file.stem.removeprefix(f"{kind}_")
        folders = (source / name, source / "images" / name, source / "images")
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"images of {file} not found; looked for {', '.join(map(str, folders))}")
        found[standard_split(_YEAR.sub("", name))] = CocoSplit(file, folder)
    if kind == "instances":
        for file in sorted(source.glob("*/_annotations.coco.json")):
            found[standard_split(file.parent.name)] = CocoSplit(file, file.parent)
    if not found:
        raise FileNotFoundError(
            f"no annotations/{kind}_*.json in {source}; name the files with --split train=annotations.json,images"
        )
    return found


def read_coco(
    source: Path,
    *,
    splits: Mapping[str, CocoSplit] | None = None,
    options: ShapeOptions = COCO_OPTIONS,
    crowd: Crowd = "paint",
) -> SourceDataset:
    """Lists a set in COCO's form.

    Args:
        source: The folder that holds annotations and images; only read.
        splits: Annotation file and image folder of each split; found by their names when not given.
        options: How objects become masks. By default the smaller one of two overlapping objects is seen, and pixels
            without an object are a class `background` with the train id 0.
        crowd: What becomes of annotations of whole crowds: painted as their class, painted as ignored, or left out.

    Returns:
        The source. An annotation file is held in memory as a whole.

    Raises:
        FileNotFoundError: Annotations or their folders are missing.
        ValueError: An annotation file is malformed, or the splits differ in their categories.
    """
    found = find_splits(source, splits or {})
    contents = {split: read_json_object(place.annotations) for split, place in found.items()}
    plan = plan_shapes(read_categories(found, contents), options, source)

    def make(file: Path, image: _Json, annotations: Sequence[_Json] | None) -> MaskSource | None:
        return None if annotations is None else CocoMask(file, image, annotations, plan, crowd)

    settings = {**options.settings(), "crowd": crowd}
    return _list_source("convert coco", source, found, contents, classes=plan.table, make=make, settings=settings)


def read_panoptic(
    source: Path,
    *,
    splits: Mapping[str, CocoSplit] | None = None,
    ignore: Sequence[str] = (),
    crowd: Crowd = "paint",
) -> SourceDataset:
    """Lists a set in COCO's panoptic form.

    Args:
        source: The folder that holds annotations and images; only read.
        splits: Annotation file and image folder of each split; found by their names when not given. The PNGs are in a
            folder of the annotation file's name without its ending.
        ignore: Categories whose pixels become the ignore index.
        crowd: `paint` crowd segments as their class; `ignore` and `skip` both make them ignored pixels, as nothing lies
            beneath them.

    Returns:
        The source.

    Raises:
        FileNotFoundError: Annotations or their folders are missing.
        ValueError: An annotation file is malformed, or the splits differ in their categories.
    """
    found = find_splits(source, splits or {}, "panoptic")
    contents = {split: read_json_object(place.annotations) for split, place in found.items()}
    plan = plan_classes(read_categories(found, contents), ignore, source)

    def make(file: Path, image: _Json, annotations: Sequence[_Json] | None) -> MaskSource:
        entry = annotations[0] if annotations else {}
        if annotations is None or len(annotations) != 1 or "file_name" not in entry or "segments_info" not in entry:
            raise ValueError(
                f"{file}: image {image['file_name']} has {len(annotations or ())} annotations, expected one with "
                "file_name and segments_info; is it a panoptic file?"
            )
        png = file.with_suffix("") / entry["file_name"]
        return PanopticMask(file, png, image, entry["segments_info"], plan.train_ids, crowd)

    settings = {"ignore": sorted(ignore), "crowd": crowd}
    tool = "convert coco --panoptic"
    return _list_source(tool, source, found, contents, classes=plan.table, make=make, settings=settings)


def _list_source(
    tool: str,
    source: Path,
    found: Mapping[str, CocoSplit],
    contents: dict[str, dict[str, Any]],
    *,
    classes: ClassTable,
    make: Callable[[Path, _Json, Sequence[_Json] | None], MaskSource | None],
    settings: Mapping[str, object],
) -> SourceDataset:
    """Lists the images of all annotation files; each content is dropped once it is listed, to free its memory.

    Args:
        tool: The command.
        source: The folder.
        found: Annotation file and image folder of each split.
        contents: The annotation file of each split, read.
        classes: What a network learns.
        make: Gives the mask of an annotation file's image; its annotations are None where the file holds none at all.
        settings: What decides the masks.
    """
    skipped: Counter[str] = Counter()
    listed: dict[str, list[SourceImage]] = {}
    for split, place in found.items():
        content = contents.pop(split)
        groups = group_annotations(content, place.annotations, skipped)
        images = listed.setdefault(split, [])
        for image in content["images"]:
            mask = make(place.annotations, image, groups[image["id"]] if "annotations" in content else None)
            name = Path(image["file_name"])
            images.append(SourceImage(name.with_suffix("").as_posix(), place.images / name, mask))
    plain = {split: [str(path.resolve()) for path in place] for split, place in found.items()}
    return SourceDataset(tool, source, classes, listed, {**settings, "splits": plain}, skipped)


def read_categories(found: Mapping[str, CocoSplit], contents: Mapping[str, _Json]) -> list[NamedClass]:
    """The categories in the order of their ids; all annotation files must have the same.

    Raises:
        ValueError: A field is missing, or the files differ.
    """
    first: list[NamedClass] | None = None
    for split, content in contents.items():
        file = found[split].annotations
        try:
            categories = [
                NamedClass(str(entry["name"]), int(entry["id"]), _color_of(entry)) for entry in content["categories"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: categories must hold id and name of each category ({error!r})") from error
        categories.sort(key=lambda entry: entry.source_id)
        if first is not None and categories != first:
            other = next(iter(found.values())).annotations
            raise ValueError(f"{file} has other categories than {other}; they must be the same")
        first = categories
    assert first is not None, "there is at least one file"
    return first


def _color_of(category: _Json) -> tuple[int, int, int] | None:
    """The colour of a category; panoptic files have one."""
    color = category.get("color")
    return (int(color[0]), int(color[1]), int(color[2])) if color else None


def group_annotations(content: _Json, file: Path, skipped: Counter[str]) -> dict[int, list[_Json]]:
    """The annotations by image; checks the list of images, and counts annotations of images that are not in it.

    Raises:
        ValueError: An image lacks a field, or two have one id.
    """
    images = content.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise ValueError(f"{file} has no list `images`; is it a COCO annotation file?")
    for number, image in enumerate(images):
        missing = [name for name in ("id", "file_name", "height", "width") if name not in image]
        if missing:
            raise ValueError(f"{file}: images[{number}] lacks {', '.join(missing)}")
    groups: dict[int, list[_Json]] = {image["id"]: [] for image in images}
    if len(groups) != len(images):
        raise ValueError(f"{file}: {len(images) - len(groups)} images have the id of another one")
    for annotation in content.get("annotations", ()):
        if annotation.get("image_id") in groups:
            groups[annotation["image_id"]].append(annotation)
        else:
            skipped[f"annotations of images that {file.name} does not list"] += 1
    return groups
