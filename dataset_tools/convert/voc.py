"""PASCAL VOC's segmentation form, also as CVAT exports it ("Segmentation mask"), to a dataset folder.

    JPEGImages/X.jpg, SegmentationClass/X.png, ImageSets/Segmentation/{train,val,trainval,test,default}.txt
    labelmap.txt: one class per line, `name:r,g,b:parts:actions`, in the order of the class ids

Masks hold indices (VOC's own: palette images, 255 is the border that is not evaluated) or colours (CVAT's).

Source: the development kit of the PASCAL VOC challenge 2012; CVAT's documentation of its segmentation mask format.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Literal

from dataset_tools.convert.classes import ClassPlan, NamedClass, plan_classes
from dataset_tools.convert.painting import BACKGROUND_NAMES, Unlabelled
from dataset_tools.convert.pairing import (
    NamedFiles,
    Pairing,
    Unmatched,
    find_files,
    name_splits,
    need_folders,
)
from dataset_tools.convert.source import (
    BlankMask,
    ColorMask,
    Encoding,
    IndexMask,
    MaskSource,
    SourceDataset,
    SourceImage,
)
from dataset_tools.labels import IGNORE_TRAIN_ID
from dataset_tools.lists import read_lines
from dataset_tools.masks import Rgb, distinct_colors
from dataset_tools.paths import IMAGE_ENDINGS, find_paths
from fasterseg.base.images import open_image

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
_JOINED_LIST = "trainval"


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


def read_voc(
    source: Path,
    *,
    encoding: EncodingChoice = "auto",
    ignore: Sequence[str] = (),
    unlabelled: Unlabelled = "error",
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists a set in VOC's form.

    Args:
        source: The folder that holds `JPEGImages` and `SegmentationClass`; only read.
        encoding: What the masks hold. `auto` decides for every mask by its form: with a labelmap, colour and palette
            images hold colours and grey ones indices; without, palette and grey images hold indices and colour images
            VOC's colours.
        ignore: Classes whose pixels become the ignore index, as the border always does: index 255, or its colour
            (224, 224, 192) where that is no class.
        unlabelled: What an image of a list without a mask is: an error, or an image of background alone. CVAT writes no
            masks for frames without shapes.
        unmatched: What becomes of other images without a mask and of masks without an image: an error, or left out.

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
    pairing = Pairing(unmatched)
    images = find_files("image", source / "JPEGImages", IMAGE_ENDINGS, pairing.problems)
    masks = find_files("mask", source / "SegmentationClass", (".png",), pairing.problems)
    make = _MaskMaker(found, plan, encoding, has_map)
    blank = _background_of(found, plan, labelmap) if unlabelled == "background" else None
    lists = _read_lists(source, masks, pairing.skipped)
    makers = {stem: partial(make, path) for stem, path in masks.by_name.items()}
    splits = {split: _pair_list(split, stems, images, makers, blank, pairing) for split, stems in lists.items()}
    pairing.refuse(source)
    pairing.skipped["images that no list names"] = len(images.by_name.keys() - set(chain(*lists.values())))
    settings = {"encoding": encoding, "ignore": sorted(ignore), **({} if blank is None else {"unlabelled": unlabelled})}
    return SourceDataset("convert voc", source, plan.table, splits, settings, +pairing.skipped, plan.notes)


def _pair_list(
    split: str,
    stems: Iterable[str],
    images: NamedFiles,
    masks: Mapping[str, Callable[[], MaskSource]],
    blank: BlankMask | None,
    pairing: Pairing,
) -> list[SourceImage]:
    """The images of one list, with the mask of their name or the blank one."""
    paired = []
    for stem in stems:
        if stem not in images.by_name:
            pairing.lacks("names of a list without an image", f"{split}: no image for {stem}")
        elif stem in masks:
            paired.append(SourceImage(stem, images.by_name[stem], masks[stem]()))
        elif blank is not None:
            paired.append(SourceImage(stem, images.by_name[stem], blank))
        else:
            advice = "; if it shows background alone, say so with --unlabelled background"
            pairing.lacks("images without a mask", f"{split}: no mask for {stem}{advice}")
    return paired


def _background_of(found: Iterable[NamedClass], plan: ClassPlan, labelmap: Path) -> BlankMask:
    """The mask of an image without objects.

    Raises:
        ValueError: No class is the background.
    """
    own = next((entry for entry in found if entry.name in BACKGROUND_NAMES or entry.color == (0, 0, 0)), None)
    if own is None:
        raise ValueError(
            f"{labelmap}: no class is called background or has the colour 0,0,0, which --unlabelled background needs"
        )
    return BlankMask(plan.train_ids[own.source_id], "images without a mask: all background (--unlabelled background)")


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
        with open_image(path, "mask") as image:
            mode = image.mode
        colored = ("RGB", "RGBA", "P") if self._has_map else ("RGB", "RGBA")
        return "color" if mode in colored else "index"


def _read_lists(source: Path, masks: NamedFiles, skipped: Counter[str]) -> dict[str, list[str]]:
    """The stems of each split."""
    lists = {path.stem: path for path in find_paths(source / "ImageSets" / "Segmentation", "*.txt")}
    if not lists:
        return {"train": list(masks.by_name)}
    if {"train", "val", _JOINED_LIST} <= lists.keys():
        del lists[_JOINED_LIST]
        skipped[f"list {_JOINED_LIST}: train and val are converted"] = 1
    splits = name_splits(sorted(lists))
    return {split: [_stem(line, masks) for _, line in read_lines(lists[name])] for name, split in splits.items()}


def _stem(line: str, masks: NamedFiles) -> str:
    """The name that a line of a list gives; backslashes of Windows count as `/`."""
    stem = line.strip()
    return stem if stem in masks.by_name else stem.replace("\\", "/")
