"""Cityscapes, and sets in its folder form, to a dataset folder.

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_{polygons.json,labelIds.png,labelTrainIds.png}

Source: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016.
"""

from functools import partial
from pathlib import Path
from typing import Literal

from dataset_tools.convert.pairing import Pairing, Unmatched, images_alone, need_folders, pair_folders, subfolders
from dataset_tools.convert.source import IndexMask, MaskSource, PolygonMask, SourceDataset, SourceImage
from dataset_tools.labels import (
    CITYSCAPES_LABELS,
    IGNORE_TRAIN_ID,
    LabelDefinition,
    class_table,
    load_labels,
    train_id_or_ignore,
)

MasksFrom = Literal["polygons", "labelIds", "labelTrainIds"]
IMAGE_FOLDER = "leftImg8bit"
UNPUBLISHED_SPLIT = "test"


def labelled_mask(path: Path, masks_from: MasksFrom, labels: tuple[LabelDefinition, ...]) -> MaskSource:
    """The mask of a file in one of Cityscapes' three forms."""
    if masks_from == "polygons":
        return PolygonMask(path, labels)
    if masks_from == "labelIds":
        return IndexMask(path, {label.id: train_id_or_ignore(label) for label in labels if label.id >= 0})
    train_ids = {train_id_or_ignore(label) for label in labels} | {IGNORE_TRAIN_ID}
    return IndexMask(path, {train_id: train_id for train_id in train_ids})


def plain_labels(labels: tuple[LabelDefinition, ...]) -> list[str]:
    """Definitions as short texts: they decide the masks."""
    return [f"{label.name}: {label.id} -> {label.train_id}" for label in labels]


def mask_ending(masks_from: MasksFrom) -> str:
    """The ending of files in one of Cityscapes' three forms."""
    return ".json" if masks_from == "polygons" else ".png"


def read_cityscapes(
    source: Path,
    *,
    masks_from: MasksFrom = "labelIds",
    annotations: str = "gtFine",
    labels: Path | None = None,
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists Cityscapes.

    Args:
        source: The folder that holds `leftImg8bit` and the annotations; only read.
        masks_from: Which of the files beside each other the masks are made of.
        annotations: Folder of the annotations, and the word in their file names: `gtFine` or `gtCoarse`.
        labels: Label definitions of another set in this form. With Cityscapes' own, the masks of `test` are left out:
            they are dummies, the labels are not public.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: Images and masks do not match; names all of them.
    """
    need_folders(
        [source / IMAGE_FOLDER, source / annotations],
        f"Cityscapes' folders {IMAGE_FOLDER}/<split>/<city> and {annotations}/<split>/<city> in {source}",
    )
    definitions = CITYSCAPES_LABELS if labels is None else load_labels(labels)
    make = partial(labelled_mask, masks_from=masks_from, labels=definitions)
    suffixes = (f"_{IMAGE_FOLDER}", f"_{annotations}_{masks_from}")
    endings, pairing = (mask_ending(masks_from),), Pairing(unmatched)
    splits: dict[str, list[SourceImage]] = {}
    for folder in subfolders(source / IMAGE_FOLDER):
        if labels is None and folder.name == UNPUBLISHED_SPLIT:
            splits[folder.name] = images_alone(folder, pairing.problems, suffix=suffixes[0])
            reason = f"masks of {UNPUBLISHED_SPLIT}: dummies, the labels are not public"
            pairing.skipped[reason] = len(splits[folder.name])
            continue
        masks = source / annotations / folder.name
        if pairing.has_folder(masks, folder, "the annotations of"):
            splits[folder.name] = pair_folders(folder, masks, make, pairing, suffixes=suffixes, mask_endings=endings)
    pairing.refuse(source)
    settings = {"masks_from": masks_from, "annotations": annotations, "labels": plain_labels(definitions)}
    classes = class_table(definitions, labels or "Cityscapes")
    name = "Cityscapes" if labels is None else None
    return SourceDataset("convert cityscapes", source, classes, splits, settings, pairing.skipped, name=name)
