"""Custom sets in the layout of FasterSeg's public tools to a dataset folder.

    original_images/<split>/X_raw.png
    annotations/<split>/X_polygons.json, or X_labelTrainIds.png
    {train,val,test,train_val}_mapping_list.txt       one "image mask" pair per line, relative to the folder
    labels.csv                                        name,id,trainId,category,...,color_r,color_g,color_b

Pairs are checked by the exact X, also those of the mapping lists.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from dataset_tools.convert.cityscapes import labelled_mask, mask_ending, plain_labels
from dataset_tools.convert.pairing import Pairing, Unmatched, name_splits, need_folders, pair_folders, subfolders
from dataset_tools.convert.source import MaskSource, SourceDataset, SourceImage
from dataset_tools.labels import class_table, load_labels
from dataset_tools.lists import mapping_paths, read_lines
from dataset_tools.paths import find_paths

CustomMasksFrom = Literal["polygons", "labelTrainIds"]
IMAGE_SUFFIX = "_raw"
LIST_SUFFIX = "_mapping_list.txt"
_JOINED_LIST = "train_val"
_MASK_SUFFIXES = ("_polygons", "_labelTrainIds", "_labelIds")


def read_fasterseg(
    source: Path,
    *,
    labels: Path | None = None,
    masks_from: CustomMasksFrom = "polygons",
    lists: bool | None = None,
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a custom set.

    Args:
        source: The folder; only read.
        labels: Label definitions; the one CSV file in the folder when not given.
        masks_from: Which of the annotation files the masks are made of.
        lists: Take the splits from the mapping lists rather than from the folders; None: where there are lists.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source. The list `train_val` is left out where `train` and `val` are there.

    Raises:
        FileNotFoundError: A folder, the lists or the definitions are missing.
        ValueError: Images and annotations do not match, a line of a list joins two different names, or the definitions
            are malformed; names all of them.
    """
    need_folders([source / "original_images", source / "annotations"], f"FasterSeg's custom layout in {source}")
    labels = labels or _find_labels(source)
    definitions = load_labels(labels)
    files = {path.name.removesuffix(LIST_SUFFIX): path for path in find_paths(source, f"*{LIST_SUFFIX}")}
    if lists and not files:
        raise FileNotFoundError(f"no *{LIST_SUFFIX} in {source}; leave --lists out to take the splits from the folders")
    pairing = Pairing(unmatched)
    if {"train", "val", _JOINED_LIST} <= files.keys():
        del files[_JOINED_LIST]
        pairing.skipped[f"list {_JOINED_LIST}: train and val are converted"] = 1
    use_lists = bool(files) if lists is None else lists
    make = partial(labelled_mask, masks_from=masks_from, labels=definitions)
    splits = (
        _from_lists(source, files, masks_from, make, pairing)
        if use_lists
        else _from_folders(source, masks_from, make, pairing)
    )
    pairing.refuse(source, *(["the mapping lists are wrong"] if use_lists else []))
    settings = {"masks_from": masks_from, "lists": use_lists, "labels": plain_labels(definitions)}
    return SourceDataset(
        "convert fasterseg", source, class_table(definitions, labels), splits, settings, pairing.skipped
    )


def _find_labels(source: Path) -> Path:
    """The one CSV file of the folder."""
    found = find_paths(source, "*.csv")
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"expected one CSV file of label definitions in {source}, found {listed}; give --labels"
        )
    return found[0]


def _from_folders(
    source: Path, masks_from: CustomMasksFrom, make: Callable[[Path], MaskSource], pairing: Pairing
) -> dict[str, list[SourceImage]]:
    """The images by their folders."""
    suffixes, endings = (IMAGE_SUFFIX, f"_{masks_from}"), (mask_ending(masks_from),)
    splits = {}
    folders = {folder.name: folder for folder in subfolders(source / "original_images")}
    for name, split in name_splits(folders).items():
        masks = source / "annotations" / name
        if pairing.has_folder(masks, folders[name], "the annotations of"):
            splits[split] = pair_folders(folders[name], masks, make, pairing, suffixes=suffixes, mask_endings=endings)
    return splits


def _from_lists(
    source: Path,
    files: Mapping[str, Path],
    masks_from: CustomMasksFrom,
    make: Callable[[Path], MaskSource],
    pairing: Pairing,
) -> dict[str, list[SourceImage]]:
    """The images by the mapping lists; the annotation of a line is replaced by the form that is asked for."""
    splits: dict[str, list[SourceImage]] = {}
    for split, file in files.items():
        images = splits.setdefault(split, [])
        for number, line in read_lines(file):
            try:
                image, annotation = mapping_paths(source, line)
            except ValueError:
                pairing.problems.append(
                    f"{file}:{number}: {line!r}, expected `image mask`; quote names that hold spaces"
                )
                continue
            name, annotated = image.stem.removesuffix(IMAGE_SUFFIX), _annotated_name(annotation)
            mask = annotation.with_name(f"{annotated}_{masks_from}{mask_ending(masks_from)}")
            if name != annotated:
                pairing.problems.append(f"{file}:{number}: joins the image {name} with the annotation of {annotated}")
            missing = [path for path in (image, mask) if not path.is_file()]
            for path in missing:
                pairing.lacks("files that a list names and that are not there", f"{file}:{number}: not found: {path}")
            if not missing:
                images.append(SourceImage(name, image, make(mask)))
    return splits


def _annotated_name(annotation: Path) -> str:
    """The name of the image that an annotation belongs to."""
    for suffix in _MASK_SUFFIXES:
        if annotation.stem.endswith(suffix):
            return annotation.stem.removesuffix(suffix)
    return annotation.stem
