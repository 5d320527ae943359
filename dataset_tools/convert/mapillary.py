"""Mapillary Vistas, version 1.2 or 2.0, to a dataset folder.

    {training,validation,testing}/images/X.jpg
    {training,validation}/{v1.2,v2.0}/labels/X.png       8-bit index into the list of labels
    config_v1.2.json, config_v2.0.json                   labels: [{name, readable, color, evaluate, ...}, ...]

Source: Neuhold et al., "The Mapillary Vistas dataset", ICCV 2017, and the files that come with it.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dataset_tools.convert.classes import NamedClass, plan_classes
from dataset_tools.convert.pairing import (
    Pairing,
    Unmatched,
    images_alone,
    need_folders,
    pair_folders,
    standard_split,
)
from dataset_tools.convert.source import IndexMask, SourceDataset, SourceImage, read_json_object
from dataset_tools.labels import label_text

Version = Literal["v1.2", "v2.0"]
_SPLITS = ("training", "validation", "testing")
_UNPUBLISHED_SPLIT = "testing"


def read_mapillary(
    source: Path,
    *,
    version: Version = "v2.0",
    ignore: Sequence[str] = (),
    all_labels: bool = False,
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists Mapillary Vistas.

    Args:
        source: The folder that holds the splits and the configuration files; only read.
        version: Which of the two labellings.
        ignore: Classes, by their readable names, whose pixels become the ignore index.
        all_labels: Take labels that are not evaluated for classes; otherwise they are ignored.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: A folder or the configuration is missing.
        ValueError: The configuration is malformed, or images and masks do not match; names all of them.
    """
    config = source / f"config_{version}.json"
    found, unevaluated = _read_labels(config)
    left_out = () if all_labels else tuple(unevaluated)
    reason = f"labels that are ignored because they are not evaluated: {', '.join(left_out)}"
    plan = plan_classes(found, {*ignore, *left_out}, config)
    folders = [split for split in _SPLITS if (source / split).is_dir()]
    if not folders:
        raise FileNotFoundError(f"none of Vistas' folders {', '.join(_SPLITS)} in {source}")
    make = partial(IndexMask, train_ids=plan.train_ids)
    pairing = Pairing(unmatched)
    splits: dict[str, list[SourceImage]] = {}
    for split in folders:
        images, masks = source / split / "images", source / split / version / "labels"
        need_folders([images], f"the images of {split}")
        if split == _UNPUBLISHED_SPLIT and not masks.is_dir():
            splits[standard_split(split)] = images_alone(images, pairing.problems)
            continue
        if pairing.has_folder(masks, images, "the masks of"):
            splits[standard_split(split)] = pair_folders(images, masks, make, pairing)
    pairing.refuse(source)
    settings = {"version": version, "ignore": sorted(ignore), "all_labels": all_labels}
    name, skipped = f"Mapillary Vistas {version}", {reason: len(left_out), **pairing.skipped}
    return SourceDataset("convert mapillary", source, plan.table, splits, settings, skipped, plan.notes, name)


def _read_labels(config: Path) -> tuple[list[NamedClass], list[str]]:
    """The labels of a configuration, in the order of their ids, and the names of those that are not evaluated."""
    if not config.is_file():
        raise FileNotFoundError(f"{config} not found; it comes with Vistas and names the labels of that version")
    try:
        labels: list[dict[str, Any]] = read_json_object(config)["labels"]
        readable = [label_text(label["readable"], f"labels[{number}]") for number, label in enumerate(labels)]
        # Full names, such as construction--flat--road, where the short ones repeat.
        names = readable if len(set(readable)) == len(readable) else [str(label["name"]) for label in labels]
        colors = [tuple(int(value) for value in label["color"]) for label in labels]
        unevaluated = [name for name, label in zip(names, labels, strict=True) if not label["evaluate"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{config} is no configuration of Vistas: {error!r}") from error
    found = [
        NamedClass(name, number, (color[0], color[1], color[2]))
        for number, (name, color) in enumerate(zip(names, colors, strict=True))
    ]
    return found, unevaluated
