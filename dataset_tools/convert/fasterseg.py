"""Custom sets in the layout of FasterSeg's public tools to a dataset folder.

    original_images/<split>/X_raw.png
    annotations/<split>/X_polygons.json, or X_labelTrainIds.png
    {train,val,test,train_val}_mapping_list.txt       one "image mask" pair per line, relative to the folder
    labels.csv                                        name,id,trainId,category,...,color_r,color_g,color_b

Pairs are checked by the exact X, also those of the mapping lists.
"""

from pathlib import Path
from typing import Literal

from dataset_tools.convert.cityscapes import labelled_mask, mask_ending
from dataset_tools.convert.pairing import (
    IMAGE_ENDINGS,
    Pair,
    find_files,
    list_problems,
    match,
    need_folders,
    refuse,
    standard_split,
)
from dataset_tools.convert.source import SourceDataset, SourceImage
from dataset_tools.labels import class_table, load_labels
from dataset_tools.quoting import read_list_lines, split_mapping_line

CustomMasksFrom = Literal["polygons", "labelTrainIds"]
IMAGE_SUFFIX = "_raw"
LIST_SUFFIX = "_mapping_list.txt"
_JOINED_LIST = "train_val"
_MASK_SUFFIXES = ("_polygons", "_labelTrainIds", "_labelIds")


def read_fasterseg(
    source: Path, *, labels: Path | None = None, masks_from: CustomMasksFrom = "polygons", lists: bool | None = None
) -> SourceDataset:
    """Lists a custom set.

    Args:
        source: The folder; only read.
        labels: Label definitions; the one CSV file in the folder when not given.
        masks_from: Which of the annotation files the masks are made of.
        lists: Take the splits from the mapping lists rather than from the folders; None: where there are lists.

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
    files = {path.name.removesuffix(LIST_SUFFIX): path for path in sorted(source.glob(f"*{LIST_SUFFIX}"))}
    if lists and not files:
        raise FileNotFoundError(f"no *{LIST_SUFFIX} in {source}; leave --lists out to take the splits from the folders")
    skipped = {}
    if {"train", "val", _JOINED_LIST} <= files.keys():
        del files[_JOINED_LIST]
        skipped[f"list {_JOINED_LIST}: train and val are converted"] = 1
    use_lists = bool(files) if lists is None else lists
    splits = _from_lists(source, files, masks_from) if use_lists else _from_folders(source, masks_from)
    return SourceDataset(
        tool="convert fasterseg",
        name=source.resolve().name,
        root=source,
        classes=class_table(definitions, labels),
        splits={
            split: [
                SourceImage(pair.name, pair.image, labelled_mask(pair.mask, masks_from, definitions)) for pair in pairs
            ]
            for split, pairs in splits.items()
        },
        settings={
            "masks_from": masks_from,
            "lists": use_lists,
            "labels": [f"{label.name}: {label.id} -> {label.train_id}" for label in definitions],
        },
        skipped=skipped,
    )


def _find_labels(source: Path) -> Path:
    """The one CSV file of the folder."""
    found = sorted(source.glob("*.csv"))
    if len(found) != 1:
        listed = ", ".join(map(str, found)) or "none"
        raise FileNotFoundError(
            f"expected one CSV file of label definitions in {source}, found {listed}; give --labels"
        )
    return found[0]


def _from_folders(source: Path, masks_from: CustomMasksFrom) -> dict[str, list[Pair]]:
    """Pairs by the folders of the images."""
    problems: list[str] = []
    splits = {}
    for folder in sorted(path for path in (source / "original_images").iterdir() if path.is_dir()):
        mask_folder = source / "annotations" / folder.name
        need_folders([mask_folder], f"the annotations of {folder}")
        images = find_files("image", folder, IMAGE_ENDINGS, problems, suffix=IMAGE_SUFFIX)
        masks = find_files("mask", mask_folder, (mask_ending(masks_from),), problems, suffix=f"_{masks_from}")
        splits[standard_split(folder.name)] = match(images, masks, problems)
    refuse(problems, source)
    return splits


def _from_lists(source: Path, files: dict[str, Path], masks_from: CustomMasksFrom) -> dict[str, list[Pair]]:
    """Pairs by the mapping lists; the annotation of a line is replaced by the form that is asked for."""
    problems: list[str] = []
    splits: dict[str, list[Pair]] = {}
    for split, file in files.items():
        pairs = splits.setdefault(split, [])
        for number, line in read_list_lines(file):
            try:
                image, annotation = (source / name for name in split_mapping_line(line))
            except ValueError:
                problems.append(f"{file}:{number}: {line!r}, expected `image mask`; quote names that hold spaces")
                continue
            name, annotated = image.stem.removesuffix(IMAGE_SUFFIX), _annotated_name(annotation)
            mask = annotation.with_name(f"{annotated}_{masks_from}{mask_ending(masks_from)}")
            if name != annotated:
                problems.append(f"{file}:{number}: joins the image {name} with the annotation of {annotated}")
            problems.extend(f"{file}:{number}: not found: {path}" for path in (image, mask) if not path.is_file())
            pairs.append(Pair(name, image, mask))
    if problems:
        raise ValueError(f"{source}: the mapping lists are wrong:{list_problems(problems)}")
    return splits


def _annotated_name(annotation: Path) -> str:
    """The name of the image that an annotation belongs to."""
    for suffix in _MASK_SUFFIXES:
        if annotation.stem.endswith(suffix):
            return annotation.stem.removesuffix(suffix)
    return annotation.stem
