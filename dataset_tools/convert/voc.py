"""PASCAL VOC's segmentation form, also as CVAT exports it ("Segmentation mask"), to a dataset folder.

    JPEGImages/X.jpg, SegmentationClass/X.png, ImageSets/Segmentation/{train,val,trainval,test,default}.txt
    labelmap.txt: one class per line, `name:r,g,b:parts:actions`, in the order of the class ids

Masks hold indices (VOC's own: palette images, 255 is the border that is not evaluated) or colours (CVAT's).

Source: the development kit of the PASCAL VOC challenge 2012; CVAT's documentation of its segmentation mask format.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from dataset_tools.convert.source import (
    IMAGE_ENDINGS,
    ClassPlan,
    ColorMask,
    Encoding,
    IndexMask,
    MaskSource,
    NamedClass,
    NamedFiles,
    SourceDataset,
    SourceImage,
    find_files,
    need_folders,
    plan_classes,
    refuse,
)
from dataset_tools.labels import IGNORE_TRAIN_ID
from dataset_tools.lists import read_lines
from dataset_tools.masks import Rgb, distinct_colors, open_stored

EncodingChoice = Literal["auto", "index", "color"]
VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_VOC_CLASSES = tuple(
    NamedClass(name, number, color)
    for number, (name, color) in enumerate(zip(VOC_NAMES, distinct_colors(len(VOC_NAMES)), strict=True))
)
BORDER_ID = 255
BORDER_COLOR: Rgb = distinct_colors(256)[BORDER_ID]
_DEFAULT_LIST, _JOINED_LIST = "default", "trainval"


def read_labelmap(path: Path) -> list[NamedClass]:
    """Reads a labelmap.

    Args:
        path: The file; lines that begin with # are comments.

    Returns:
        The classes in file order; the position is the id.

    Raises:
        ValueError: A line is malformed, or two classes have one colour; names all of them.
    """
    classes: list[NamedClass] = []
    problems = []
    for number, line in read_lines(path):
        if line.lstrip().startswith("#"):
            continue
        name, *fields = line.split(":")
        try:
            red, green, blue = (int(value) for value in fields[0].split(","))
        except (IndexError, ValueError):
            problems.append(f"{path}:{number}: {line!r}, expected name:r,g,b:parts:actions")
            continue
        if not all(0 <= value <= 255 for value in (red, green, blue)):
            problems.append(f"{path}:{number}: colour {red},{green},{blue}, expected values in 0..255")
        twin = next((entry.name for entry in classes if entry.color == (red, green, blue)), None)
        if twin is not None:
            problems.append(f"{path}:{number}: {name} has the colour of {twin}; each class needs its own")
        classes.append(NamedClass(name.strip(), len(classes), (red, green, blue)))
    if problems:
        raise ValueError("\n".join(problems))
    return classes


def read_voc(source: Path, *, encoding: EncodingChoice = "auto", ignore: Sequence[str] = ()) -> SourceDataset:
    """Lists a set in VOC's form.

    Args:
        source: The folder that holds `JPEGImages` and `SegmentationClass`; only read.
        encoding: What the masks hold. `auto` decides for every mask by its form: with a labelmap, colour and palette
            images hold colours and grey ones indices; without, palette and grey images hold indices and colour images
            VOC's colours.
        ignore: Classes whose pixels become the ignore index, as the border always does: index 255, or its colour
            (224, 224, 192) where that is no class.

    Returns:
        The source. The splits are the lists; `trainval` is left out where `train` and `val` are there. Without lists,
        and for CVAT's `default`, everything is `train`.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: The labelmap is malformed, or a stem of a list has no image or mask; names all of them.
    """
    need_folders(
        [source / "JPEGImages", source / "SegmentationClass"],
        f"VOC's folders JPEGImages, SegmentationClass and ImageSets/Segmentation in {source}",
    )
    labelmap = source / "labelmap.txt"
    has_map = labelmap.is_file()
    found = read_labelmap(labelmap) if has_map else list(_VOC_CLASSES)
    plan = plan_classes(found, ignore, labelmap if has_map else source)
    problems: list[str] = []
    images = find_files("image", source / "JPEGImages", IMAGE_ENDINGS, problems)
    masks = find_files("mask", source / "SegmentationClass", (".png",), problems)
    make = _MaskMaker(found, plan, encoding, has_map)
    skipped: Counter[str] = Counter()
    splits: dict[str, list[SourceImage]] = {}
    for split, stems in _read_lists(source, masks, skipped).items():
        problems.extend(f"{split}: no image for {stem}" for stem in stems if stem not in images.by_name)
        problems.extend(f"{split}: no mask for {stem}" for stem in stems if stem not in masks.by_name)
        both = [stem for stem in stems if stem in images.by_name and stem in masks.by_name]
        splits[split] = [SourceImage(stem, images.by_name[stem], make(masks.by_name[stem])) for stem in both]
    refuse(problems, source)
    listed = {item.name for split in splits.values() for item in split}
    skipped["images that no list names"] = len(images.by_name.keys() - listed)
    return SourceDataset(
        "convert voc", source, plan.table, splits, {"encoding": encoding, "ignore": sorted(ignore)}, +skipped
    )


class _MaskMaker:
    """Chooses how a mask is read."""

    def __init__(self, found: Iterable[NamedClass], plan: ClassPlan, encoding: EncodingChoice, has_map: bool) -> None:
        self._encoding = encoding
        self._has_map = has_map
        self._by_id = {BORDER_ID: IGNORE_TRAIN_ID, **plan.train_ids}
        colors = {entry.color: plan.train_ids[entry.source_id] for entry in found if entry.color is not None}
        self._by_color: Mapping[Rgb, int] = {BORDER_COLOR: IGNORE_TRAIN_ID, **colors}

    def __call__(self, path: Path) -> MaskSource:
        """The mask of a file; only its header is read."""
        if self._choose(path) == "index":
            return IndexMask(path, self._by_id)
        return ColorMask(path, self._by_color)

    def _choose(self, path: Path) -> Encoding:
        """What a mask holds."""
        if self._encoding != "auto":
            return self._encoding
        with open_stored(path) as image:
            mode = image.mode
        colored = ("RGB", "RGBA", "P") if self._has_map else ("RGB", "RGBA")
        return "color" if mode in colored else "index"


def _read_lists(source: Path, masks: NamedFiles, skipped: Counter[str]) -> dict[str, list[str]]:
    """The stems of each split."""
    lists = {path.stem: path for path in sorted((source / "ImageSets" / "Segmentation").glob("*.txt"))}
    if not lists:
        return {"train": list(masks.by_name)}
    if {"train", "val", _JOINED_LIST} <= lists.keys():
        del lists[_JOINED_LIST]
        skipped[f"list {_JOINED_LIST}: train and val are converted"] = 1
    if _DEFAULT_LIST in lists and "train" not in lists:
        lists["train"] = lists.pop(_DEFAULT_LIST)
    return {split: [line.strip() for _, line in read_lines(path)] for split, path in sorted(lists.items())}
