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
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from dataset_tools.convert.classes import NamedClass, plan_classes
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
from dataset_tools.convert.pairing import Pairing, Unmatched, name_splits
from dataset_tools.convert.source import (
    FileMask,
    MaskSource,
    PaintedMask,
    SourceDataset,
    SourceImage,
    check_size,
    read_json_object,
    stated_size,
)
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable, label_text
from dataset_tools.masks import color_codes, read_color_mask
from dataset_tools.paths import find_paths, is_hidden, path_below, without_image_ending
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
    is_drawn: ClassVar[bool] = True

    @property
    def files(self) -> tuple[Path, ...]:
        """None as a whole: of the annotation file, its own annotations alone count."""
        return ()

    def stated_size(self) -> tuple[int, int] | None:
        """What the image's entry says."""
        return entry_size(self.path, self.image)

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
        category = read_id(annotation.get("category_id"))
        if not isinstance(category, int) or not (category in self.plan.values or category in self.plan.skipped):
            raise ValueError(f"{place}: category_id {annotation.get('category_id')!r} is none of the categories")
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list) and segmentation:
            is_short = [isinstance(part, list) and len(part) % 2 == 0 and len(part) < 6 for part in segmentation]
            parts = zip(segmentation, is_short, strict=True)
            segmentation = [part for part, short in parts if not (short and canvas.leaves_out(len(part) // 2))]
            if not segmentation:
                return
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
    def is_drawn(self) -> bool:
        """The PNG has pixels."""
        return False

    @property
    def files(self) -> tuple[Path, ...]:
        """The PNG."""
        return (self.png,)

    @property
    def facts(self) -> str:
        """Its segments and the classes."""
        return repr((self.image, self.segments, self.train_ids, self.crowd))

    def stated_size(self) -> tuple[int, int] | None:
        """What the image's entry says."""
        return entry_size(self.file, self.image)

    def paint(self, size: tuple[int, int]) -> PaintedMask:
        """Replaces segment ids by train ids."""
        check_image_entry(self.file, self.image, size)
        skipped: Counter[str] = Counter()
        values: dict[int | str, int] = {0: IGNORE_TRAIN_ID}
        for segment in self.segments:
            stated = segment.get("category_id")
            category = read_id(stated)
            if not isinstance(category, int) or category not in self.train_ids:
                raise ValueError(f"{self.file}: {self.png.name}: category_id {stated!r} is none of the categories")
            ignored = bool(segment.get("iscrowd")) and self.crowd != "paint"
            skipped[f"crowd segments, ignored (--crowd {self.crowd})"] += ignored
            values[read_id(segment["id"])] = IGNORE_TRAIN_ID if ignored else self.train_ids[category]
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


def entry_size(file: Path, image: _Json) -> tuple[int, int]:
    """(height, width) that the entry of an image says."""
    return stated_size(image.get("height"), image.get("width"), f"{file}: image {image['file_name']}")


def read_id(value: object) -> int | str:
    """An id as it is compared: 1, "1" and 1.0 are one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() else text


def check_image_entry(file: Path, image: _Json, size: tuple[int, int]) -> None:
    """Checks that an image has the size that its entry gives.

    Raises:
        ValueError: It has another one.
    """
    stated = entry_size(file, image)
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
    if not isinstance(stated, list) or [read_id(value) for value in stated] != list(size):
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
    found: dict[str, CocoSplit] = {}
    for file in find_paths(source / "annotations", f"{kind}_*.json"):
        name = file.stem.removeprefix(f"{kind}_")
        folders = (source / name, source / "images" / name, source / "images")
        folder = next((folder for folder in folders if folder.is_dir()), None)
        if folder is None:
            raise FileNotFoundError(f"images of {file} not found; looked for {', '.join(map(str, folders))}")
        found[name] = CocoSplit(file, folder)
    plain = {name: _YEAR.sub("", name) for name in found}
    taken = Counter(plain.values())
    found = {plain[name] if taken[plain[name]] == 1 else name: place for name, place in found.items()}
    if kind == "instances":
        for file in sorted(source.glob("*/_annotations.coco.json")):
            if not is_hidden(file.parent.name):
                found[file.parent.name] = CocoSplit(file, file.parent)
    if not found:
        raise FileNotFoundError(
            f"no annotations/{kind}_*.json in {source}; name the files with --split train=annotations.json,images"
        )
    return {split: found[name] for name, split in name_splits(found).items()}


def read_coco(
    source: Path,
    *,
    splits: Mapping[str, CocoSplit] | None = None,
    options: ShapeOptions = COCO_OPTIONS,
    crowd: Crowd = "paint",
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a set in COCO's form.

    Args:
        source: The folder that holds annotations and images; only read.
        splits: Annotation file and image folder of each split; found by their names when not given.
        options: How objects become masks. By default the smaller one of two overlapping objects is seen, and pixels
            without an object are a class `background` with the train id 0.
        crowd: What becomes of annotations of whole crowds: painted as their class, painted as ignored, or left out.
        unmatched: What becomes of images that an annotation file lists and that are not there: an error, or left out.

    Returns:
        The source. An annotation file is held in memory as a whole.

    Raises:
        FileNotFoundError: Annotations or their folders are missing.
        ValueError: An annotation file is malformed, or the splits differ in their categories.
    """
    found = find_splits(source, splits or {})
    contents = {split: read_json_object(place.annotations) for split, place in found.items()}
    categories, roots = drop_roots(read_categories(found, contents), contents.values())
    plan = plan_shapes(categories, options, source)
    notes = [*roots, *plan.notes]

    def make(file: Path, image: _Json, annotations: Sequence[_Json] | None) -> MaskSource | None:
        return None if annotations is None else CocoMask(file, image, annotations, plan, crowd)

    settings = {**options.settings(), "crowd": crowd}
    lister = _Lister(source, found, make, Pairing(unmatched))
    listed = lister.list(contents)
    return lister.dataset("convert coco", listed, plan.table, settings, notes)


def read_panoptic(
    source: Path,
    *,
    splits: Mapping[str, CocoSplit] | None = None,
    ignore: Sequence[str] = (),
    crowd: Crowd = "paint",
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a set in COCO's panoptic form.

    Args:
        source: The folder that holds annotations and images; only read.
        splits: Annotation file and image folder of each split; found by their names when not given. The PNGs are in a
            folder of the annotation file's name without its ending.
        ignore: Categories whose pixels become the ignore index.
        crowd: `paint` crowd segments as their class; `ignore` and `skip` both make them ignored pixels, as nothing lies
            beneath them.
        unmatched: What becomes of images that an annotation file lists and that are not there: an error, or left out.

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
        png = path_below(file.with_suffix(""), entry["file_name"])
        return PanopticMask(file, png, image, entry["segments_info"], plan.train_ids, crowd)

    settings = {"ignore": sorted(ignore), "crowd": crowd}
    lister = _Lister(source, found, make, Pairing(unmatched))
    listed = lister.list(contents)
    return lister.dataset("convert coco --panoptic", listed, plan.table, settings, plan.notes)


class _Lister(NamedTuple):
    """Lists the images of all annotation files.

    Attributes:
        source: The folder.
        found: Annotation file and image folder of each split.
        make: Gives the mask of an annotation file's image; its annotations are None where the file holds none at all.
        pairing: What is left out.
    """

    source: Path
    found: Mapping[str, CocoSplit]
    make: Callable[[Path, _Json, Sequence[_Json] | None], MaskSource | None]
    pairing: Pairing

    def list(self, contents: dict[str, dict[str, Any]]) -> dict[str, list[SourceImage]]:
        """The images of each split; each content is dropped once it is listed, to free its memory."""
        listed: dict[str, list[SourceImage]] = {}
        for split, place in self.found.items():
            content = contents.pop(split)
            groups = group_annotations(content, place.annotations, self.pairing.skipped)
            images = listed.setdefault(split, [])
            for image in content["images"]:
                path = path_below(place.images, image["file_name"])
                if self.pairing.unmatched == "skip" and not path.is_file():
                    self.pairing.lacks("images that are listed and not there", "")
                    continue
                own = groups[read_id(image["id"])] if "annotations" in content else None
                name = without_image_ending(path.relative_to(place.images).as_posix())
                images.append(SourceImage(name, path, self.make(place.annotations, image, own)))
        return listed

    def dataset(
        self,
        tool: str,
        splits: Mapping[str, Sequence[SourceImage]],
        classes: ClassTable,
        settings: Mapping[str, object],
        notes: Sequence[str],
    ) -> SourceDataset:
        """The source of the listed images; the annotation files belong to the settings."""
        plain = {split: [str(path.resolve()) for path in place] for split, place in self.found.items()}
        return SourceDataset(
            tool, self.source, classes, splits, {**settings, "splits": plain}, self.pairing.skipped, notes
        )


def drop_roots(categories: Sequence[NamedClass], contents: Collection[_Json]) -> tuple[list[NamedClass], list[str]]:
    """Takes out categories that only group others, as Roboflow writes one: no annotation is of them.

    Args:
        categories: The categories of the files.
        contents: The files.

    Returns:
        The other categories, and a note for the user where there are roots.
    """
    entries = [entry for content in contents for entry in content["categories"]]
    groups = {entry.get("supercategory") for entry in entries}
    used = {read_id(entry.get("category_id")) for content in contents for entry in content.get("annotations", ())}
    roots = {
        int(entry["id"])
        for entry in entries
        if entry.get("supercategory") == "none" and entry["name"] in groups and read_id(entry["id"]) not in used
    }
    kept = [entry for entry in categories if entry.source_id not in roots]
    names = ", ".join(repr(entry.name) for entry in categories if entry.source_id in roots)
    return kept, [f"categories that only group others, without annotations, are no classes: {names}"] if roots else []


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
                NamedClass(label_text(entry["name"], "categories"), int(entry["id"]), _color_of(entry))
                for entry in content["categories"]
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{file}: categories must hold id and name of each category ({error})") from error
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


def group_annotations(content: _Json, file: Path, skipped: Counter[str]) -> dict[int | str, list[_Json]]:
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
    groups: dict[int | str, list[_Json]] = {read_id(image["id"]): [] for image in images}
    if len(groups) != len(images):
        raise ValueError(f"{file}: {len(images) - len(groups)} images have the id of another one")
    lost = []
    for annotation in content.get("annotations", ()):
        own = groups.get(read_id(annotation.get("image_id")))
        if own is None:
            lost.append(annotation.get("image_id"))
        else:
            own.append(annotation)
    if lost and not any(groups.values()):
        ids = ", ".join(repr(image["id"]) for image in images[:3]) or "none"
        raise ValueError(
            f"{file}: none of its {len(lost)} annotations is of a listed image; image_id is {lost[0]!r}, the ids of "
            f"the images begin with {ids}"
        )
    skipped[f"annotations of images that {file.name} does not list"] += len(lost)
    return groups
