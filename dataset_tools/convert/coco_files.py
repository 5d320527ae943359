"""COCO's annotation files: where they are, their categories, and the annotations of each image.

Ids are compared as text: programs write 1, "1" and 1.0 for the same.
"""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dataset_tools.convert.classes import NamedClass
from dataset_tools.convert.pairing import name_splits
from dataset_tools.convert.source import stated_size
from dataset_tools.labels import label_text
from dataset_tools.paths import find_paths, is_hidden

Json = Mapping[str, Any]
_YEAR = re.compile(r"\d{4}$")


class CocoSplit(NamedTuple):
    """One annotation file and the folder that its file names are relative to."""

    annotations: Path
    images: Path


def read_id(value: object) -> int | str:
    """An id as it is compared: 1, "1" and 1.0 are one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    text = str(value)
    return int(text) if text.isdecimal() and text.isascii() else text


def entry_size(file: Path, image: Json) -> tuple[int, int]:
    """(height, width) that the entry of an image says."""
    return stated_size(image.get("height"), image.get("width"), f"{file}: image {image['file_name']}")


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


def read_categories(found: Mapping[str, CocoSplit], contents: Mapping[str, Json]) -> list[NamedClass]:
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


def _color_of(category: Json) -> tuple[int, int, int] | None:
    """The colour of a category; panoptic files have one."""
    color = category.get("color")
    return (int(color[0]), int(color[1]), int(color[2])) if color else None


def drop_roots(categories: Sequence[NamedClass], contents: Collection[Json]) -> tuple[list[NamedClass], list[str]]:
    """Takes out categories that only group others, as Roboflow writes one: no annotation is of them.

    Args:
        categories: The categories of the files.
        contents: The files.

    Returns:
        The other categories, and a note for the user where there are roots.
    """
    entries = [entry for content in contents for entry in content["categories"]]
    groups = {group for entry in entries if isinstance(group := entry.get("supercategory"), str)}
    used = {read_id(entry.get("category_id")) for content in contents for entry in content.get("annotations", ())}
    roots = {
        int(entry["id"])
        for entry in entries
        if entry.get("supercategory") == "none" and entry["name"] in groups and read_id(entry["id"]) not in used
    }
    kept = [entry for entry in categories if entry.source_id not in roots]
    names = ", ".join(repr(entry.name) for entry in categories if entry.source_id in roots)
    return kept, [f"categories that only group others, without annotations, are no classes: {names}"] if roots else []


def group_annotations(content: Json, file: Path, skipped: Counter[str]) -> dict[int | str, list[Json]]:
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
    groups: dict[int | str, list[Json]] = {read_id(image["id"]): [] for image in images}
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
