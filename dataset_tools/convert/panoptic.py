"""COCO's panoptic annotations to a dataset folder.

    annotations/panoptic_<name>.json: images, categories, annotations: [{image_id, file_name, segments_info: [{id,
    category_id, iscrowd}]}]; annotations/panoptic_<name>/<file_name>: a PNG whose pixels are R + 256 G + 65536 B = id

Every pixel belongs to one segment, so nothing overlaps; id 0 is unlabelled and becomes the ignore index.

Source: Kirillov et al., "Panoptic segmentation", CVPR 2019; the data format page of the COCO dataset.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dataset_tools.convert.coco import (
    CocoSplit,
    Crowd,
    check_image_entry,
    find_splits,
    group_annotations,
    plain_splits,
    read_categories,
)
from dataset_tools.convert.jsonfile import read_json_object
from dataset_tools.convert.source import PaintedMask, SourceDataset, SourceImage, plan_classes, wrong_size
from dataset_tools.labels import IGNORE_TRAIN_ID
from dataset_tools.masks import color_codes, read_color_mask


class PanopticMask(NamedTuple):
    """The PNG of one image and what its ids are."""

    file: Path
    png: Path
    image: Mapping[str, Any]
    segments: Sequence[Mapping[str, Any]]
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
        if found.shape != size:
            raise ValueError(wrong_size(self.png, found.shape, size))
        ids, inverse = np.unique(found, return_inverse=True)
        unknown = [number for number in ids.tolist() if number not in values]
        if unknown:
            raise ValueError(
                f"{self.png} holds the ids {unknown[:8]}, which segments_info in {self.file} does not name"
            )
        table = np.array([values[number] for number in ids.tolist()], np.uint8)
        return PaintedMask(table[inverse.reshape(size)], +skipped)


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
    categories = read_categories({found[split].annotations: contents[split] for split in found})
    plan = plan_classes(categories, ignore, source)
    skipped: dict[str, int] = {}
    listed = {}
    for split, place in found.items():
        content = contents.pop(split)
        groups = group_annotations(content, place.annotations, skipped)
        listed[split] = [
            _source_image(place, image, groups[image["id"]], plan.train_ids, crowd) for image in content["images"]
        ]
    return SourceDataset(
        tool="convert coco --panoptic",
        name=source.resolve().name,
        root=source,
        classes=plan.table,
        splits=listed,
        settings={"ignore": sorted(ignore), "crowd": crowd, "splits": plain_splits(found)},
        skipped=skipped,
    )


def _source_image(
    place: CocoSplit,
    image: Mapping[str, Any],
    annotations: Sequence[Mapping[str, Any]],
    train_ids: Mapping[int, int],
    crowd: Crowd,
) -> SourceImage:
    """One image with its PNG."""
    if len(annotations) != 1 or "file_name" not in annotations[0] or "segments_info" not in annotations[0]:
        raise ValueError(
            f"{place.annotations}: image {image['file_name']} has {len(annotations)} annotations, expected one with "
            "file_name and segments_info; is it a panoptic file?"
        )
    png = place.annotations.with_suffix("") / annotations[0]["file_name"]
    mask = PanopticMask(place.annotations, png, image, annotations[0]["segments_info"], train_ids, crowd)
    return SourceImage(Path(image["file_name"]).with_suffix("").as_posix(), place.images / image["file_name"], mask)
