"""COCO's instance annotations to a dataset folder: polygons, and run lengths in both forms.

    images: [{id, file_name, height, width}], categories: [{id, name}],
    annotations: [{image_id, category_id, segmentation, iscrowd}]

`segmentation` is a list of polygons [x1, y1, x2, y2, ...], or {size: [height, width], counts}, column by column with
the background first; counts is a list of numbers, or a string in COCO's compression. Category ids have gaps; the
classes get train ids in the order of the category ids. `panoptic` reads COCO's other form.

Source: the data format page of the COCO dataset (Lin et al., ECCV 2014).
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from dataset_tools.convert.jsonfile import read_json_object
from dataset_tools.convert.painting import Canvas, ShapeOptions, ShapePlan, plan_shapes
from dataset_tools.convert.pairing import standard_split
from dataset_tools.convert.regions import RunLengths, decompress_counts, lies_outside, trace_polygons
from dataset_tools.convert.source import NamedClass, PaintedMask, SourceDataset, SourceImage
from dataset_tools.polygons import check_points

Crowd = Literal["paint", "ignore", "skip"]
COCO_OPTIONS = ShapeOptions(order="area")
_YEAR = re.compile(r"\d{4}$")


class CocoSplit(NamedTuple):
    """One annotation file and the folder that its file names are relative to."""

    annotations: Path
    images: Path


class CocoMask(NamedTuple):
    """The annotations of one image."""

    file: Path
    image: Mapping[str, Any]
    annotations: Sequence[Mapping[str, Any]]
    plan: ShapePlan
    crowd: Crowd

    @property
    def files(self) -> tuple[Path, ...]:
        """The annotation file."""
        return (self.file,)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Paints the annotations."""
        check_image_entry(self.file, self.image, size)
        canvas = Canvas(self.plan, size)
        for annotation in self.annotations:
            self._add(canvas, annotation)
        if not self.annotations:
            canvas.skip("images without annotations: all background")
        return canvas.finish()

    def _add(self, canvas: Canvas, annotation: Mapping[str, Any]) -> None:
        """Adds one annotation."""
        place = f"{self.file}: annotation {annotation.get('id', '?')} of {self.image['file_name']}"
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


def check_image_entry(file: Path, image: Mapping[str, Any], size: tuple[int, int]) -> None:
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


def _read_run_lengths(encoded: Mapping[str, Any], size: tuple[int, int], place: str) -> RunLengths:
    """Reads run lengths in either form."""
    stated, counts = encoded.get("size"), encoded.get("counts")
    if stated != list(size):
        raise ValueError(f"{place}: run lengths of the size {stated}, the image is {list(size)} (height, width)")
    if isinstance(counts, list) and all(isinstance(count, int) and count >= 0 for count in counts):
        lengths = np.array(counts, np.int64)
    elif isinstance(counts, str):
        try:
            lengths = decompress_counts(counts.encode())
        except ValueError as error:
            raise ValueError(f"{place}: the compressed run lengths are damaged: {error}") from error
    else:
        raise ValueError(f"{place}: counts is {counts!r:.40}, expected a list of lengths or a string")
    if lengths.sum() != size[0] * size[1]:
        raise ValueError(
            f"{place}: the run lengths add up to {lengths.sum()} pixels, the image has {size[0] * size[1]}; they are "
            "damaged or of another image"
        )
    return RunLengths(lengths)


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
    plan = plan_shapes(read_categories({found[split].annotations: contents[split] for split in found}), options, source)
    skipped: dict[str, int] = {}
    listed = {}
    for split, place in found.items():
        content = contents.pop(split)
        groups = group_annotations(content, place.annotations, skipped)
        listed[split] = [
            SourceImage(
                Path(image["file_name"]).with_suffix("").as_posix(),
                place.images / image["file_name"],
                CocoMask(place.annotations, image, groups.get(image["id"], ()), plan, crowd)
                if "annotations" in content
                else None,
            )
            for image in content["images"]
        ]
    return SourceDataset(
        tool="convert coco",
        name=source.resolve().name,
        root=source,
        classes=plan.table,
        splits=listed,
        settings={**options.settings(), "crowd": crowd, "splits": plain_splits(found)},
        skipped=skipped,
    )


def plain_splits(splits: Mapping[str, CocoSplit]) -> dict[str, list[str]]:
    """Splits as plain values."""
    return {split: [str(path.resolve()) for path in place] for split, place in splits.items()}


def read_categories(contents: Mapping[Path, Mapping[str, Any]]) -> list[NamedClass]:
    """The categories in the order of their ids; all files must have the same.

    Raises:
        ValueError: A field is missing, or the files differ.
    """
    first: list[NamedClass] | None = None
    for file, content in contents.items():
        try:
            found = [
                NamedClass(str(entry["name"]), int(entry["id"]), _color_of(entry)) for entry in content["categories"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: categories must hold id and name of each category ({error!r})") from error
        found.sort(key=lambda entry: entry.source_id)
        if first is not None and found != first:
            raise ValueError(f"{file} has other categories than {next(iter(contents))}; they must be the same")
        first = found
    assert first is not None, "there is at least one file"
    return first


def _color_of(category: Mapping[str, Any]) -> tuple[int, int, int] | None:
    """The colour of a category; panoptic files have one."""
    color = category.get("color")
    return (int(color[0]), int(color[1]), int(color[2])) if color else None


def group_annotations(
    content: Mapping[str, Any], file: Path, skipped: dict[str, int]
) -> dict[int, list[Mapping[str, Any]]]:
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
    groups: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in images}
    if len(groups) != len(images):
        raise ValueError(f"{file}: {len(images) - len(groups)} images have the id of another one")
    for annotation in content.get("annotations", ()):
        if annotation.get("image_id") in groups:
            groups[annotation["image_id"]].append(annotation)
        else:
            reason = f"annotations of images that {file.name} does not list"
            skipped[reason] = skipped.get(reason, 0) + 1
    return groups
