"""Plain folders of images and masks to a dataset folder.

    images/X.jpg with masks/X.png                            one split
    images/<split>/X.jpg with masks/<split>/X.png            several
    photos/X_raw.png with labels/X_mask.png                  with suffixes

Pairs have exactly the same name after the suffixes are removed. What the ids or colours of the masks are is said by a
file of label definitions; a value that it does not hold is an error.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from dataset_tools.convert.pairing import (
    IMAGE_ENDINGS,
    MASK_ENDINGS,
    find_files,
    match,
    need_folders,
    refuse,
    standard_split,
    unmatched,
)
from dataset_tools.convert.source import ColorMask, Encoding, IndexMask, MaskSource, SourceDataset, SourceImage
from dataset_tools.labels import LabelDefinition, class_table, load_labels, train_id_or_ignore
from dataset_tools.masks import Rgb

Unmatched = Literal["error", "skip"]


class FolderNames(NamedTuple):
    """How the files are called.

    Attributes:
        images: Folder of the images, below the source.
        masks: Folder of the masks.
        image_suffix: What image names end in before their ending.
        mask_suffix: What mask names end in before their ending.
    """

    images: str = "images"
    masks: str = "masks"
    image_suffix: str = ""
    mask_suffix: str = ""


def read_folders(
    source: Path,
    labels: Path,
    *,
    names: FolderNames | None = None,
    encoding: Encoding = "index",
    unmatched_files: Unmatched = "error",
) -> SourceDataset:
    """Lists plain folders.

    Args:
        source: The folder that holds both; only read.
        labels: Label definitions: the ids or colours of the masks, and the train id of each.
        names: How the files are called.
        encoding: Whether the masks hold ids or colours.
        unmatched_files: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source. Where the image folder holds folders that the mask folder has, too, they are the splits; otherwise
        everything is `train`.

    Raises:
        FileNotFoundError: A folder or the definitions are missing.
        ValueError: Images and masks do not match, or the definitions contradict each other; names all of them.
    """
    names = names or FolderNames()
    definitions = load_labels(labels)
    by_id, by_color = _values(definitions, encoding, labels)
    image_root, mask_root = source / names.images, source / names.masks
    need_folders([image_root, mask_root], "a folder of images and one of masks; name them with --images and --masks")
    problems: list[str] = []
    skipped: Counter[str] = Counter()
    splits: dict[str, list[SourceImage]] = {}
    for split, folder in _split_folders(image_root, mask_root).items():
        images = find_files("image", image_root / folder, IMAGE_ENDINGS, problems, suffix=names.image_suffix)
        masks = find_files("mask", mask_root / folder, MASK_ENDINGS, problems, suffix=names.mask_suffix)
        if unmatched_files == "skip":
            without_mask, without_image = unmatched(images, masks)
            skipped["images without a mask (--unmatched skip)"] += len(without_mask)
            skipped["masks without an image (--unmatched skip)"] += len(without_image)
        pairs = match(images, masks, [] if unmatched_files == "skip" else problems)
        splits[split] = [
            SourceImage(pair.name, pair.image, _mask(pair.mask, encoding, by_id, by_color)) for pair in pairs
        ]
    refuse(problems, source)
    return SourceDataset(
        tool="convert folders",
        name=source.resolve().name,
        root=source,
        classes=class_table(definitions, labels),
        splits=splits,
        settings={
            **names._asdict(),
            "encoding": encoding,
            "values": [f"{key} -> {value}" for key, value in sorted((by_id or by_color).items())],
        },
        skipped=+skipped,
    )


def _mask(path: Path, encoding: Encoding, by_id: Mapping[int, int], by_color: Mapping[Rgb, int]) -> MaskSource:
    """The mask of a file."""
    return IndexMask(path, by_id) if encoding == "index" else ColorMask(path, by_color)


def _values(
    definitions: tuple[LabelDefinition, ...], encoding: Encoding, labels: Path
) -> tuple[dict[int, int], dict[Rgb, int]]:
    """Train id by id, or by colour; an id or colour of two classes is refused."""
    by_id: dict[int, int] = {}
    by_color: dict[Rgb, int] = {}
    problems = []
    for label in definitions:
        value = train_id_or_ignore(label)
        if encoding == "color":
            known = by_color.setdefault(label.color, value)
            what = f"the colour {label.color}"
        elif label.id >= 0:
            known = by_id.setdefault(label.id, value)
            what = f"the id {label.id}"
        else:
            continue
        if known != value:
            problems.append(f"{label.name}: {what} already stands for the train id {known}, here it is {value}")
    if problems:
        raise ValueError(f"{labels}: " + "; ".join(problems))
    return by_id, by_color


def _split_folders(images: Path, masks: Path) -> dict[str, str]:
    """Folder of each split, below the images and the masks."""
    folders = sorted(path.name for path in images.iterdir() if path.is_dir() and (masks / path.name).is_dir())
    return {standard_split(folder): folder for folder in folders} or {"train": "."}
