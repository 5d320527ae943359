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

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from dataset_tools.convert.classes import plan_classes
from dataset_tools.convert.coco_files import (
    CocoSplit,
    Json,
    drop_roots,
    entry_size,
    find_splits,
    group_annotations,
    read_categories,
    read_id,
)
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
from dataset_tools.convert.pairing import Pairing, Unmatched
from dataset_tools.convert.source import (
    FileMask,
    MaskSource,
    PaintedMask,
    SourceDataset,
    SourceImage,
    check_size,
    read_json_object,
)
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable
from dataset_tools.masks import color_codes, read_color_mask
from dataset_tools.paths import path_below, without_image_ending
from dataset_tools.polygons import check_points

Crowd = Literal["paint", "ignore", "skip"]
COCO_OPTIONS = ShapeOptions(order="area")


@dataclass(frozen=True)
class CocoMask(FileMask):
    """The annotations of one image."""

    image: Json
    annotations: Sequence[Json]
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

    def _add(self, canvas: Canvas, annotation: Json) -> None:
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
    image: Json
    segments: Sequence[Json]
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


def check_image_entry(file: Path, image: Json, size: tuple[int, int]) -> None:
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


def _read_run_lengths(encoded: Json, size: tuple[int, int], place: str) -> RunLengths:
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

    def make(file: Path, image: Json, annotations: Sequence[Json] | None) -> MaskSource | None:
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

    def make(file: Path, image: Json, annotations: Sequence[Json] | None) -> MaskSource:
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
    make: Callable[[Path, Json, Sequence[Json] | None], MaskSource | None]
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
