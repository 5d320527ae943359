"""Plain folders of images and masks to a dataset folder.

    images/X.jpg with masks/X.png                            one split
    images/<split>/X.jpg with masks/<split>/X.png            several
    photos/X_raw.png with labels/X_mask.png                  with suffixes

Pairs have exactly the same name after the suffixes are removed. What the ids or colours of the masks are is said by a
file of label definitions; a value that it does not hold is an error.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dataset_tools.convert.pairing import (
    MASK_ENDINGS,
    Pairing,
    Unmatched,
    name_splits,
    need_folders,
    pair_folders,
    subfolders,
)
from dataset_tools.convert.source import ColorMask, Encoding, IndexMask, MaskSource, SourceDataset, SourceImage
from dataset_tools.labels import LabelDefinition, class_table, load_labels, train_id_or_ignore
from dataset_tools.masks import Rgb


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
    unmatched: Unmatched = "error",
) -> SourceDataset:
    """Lists plain folders.

    Args:
        source: The folder that holds both; only read.
        labels: Label definitions: the ids or colours of the masks, and the train id of each.
        names: How the files are called.
        encoding: Whether the masks hold ids or colours.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source. Where the image folder holds folders that the mask folder has, too, they are the splits; otherwise
        everything is `train`.

    Raises:
        FileNotFoundError: A folder or the definitions are missing.
        ValueError: Images and masks do not match, or the definitions contradict each other; names all of them.
    """
    names = names or FolderNames()
    definitions = load_labels(labels)
    make, values = _mask_maker(definitions, encoding, labels)
    image_root, mask_root = source / names.images, source / names.masks
    need_folders([image_root, mask_root], "a folder of images and one of masks; name them with --images and --masks")
    pairing = Pairing(unmatched)
    splits: dict[str, list[SourceImage]] = {}
    for split, folder in _split_folders(image_root, mask_root).items():
        suffixes = (names.image_suffix, names.mask_suffix)
        splits[split] = pair_folders(
            image_root / folder, mask_root / folder, make, pairing, suffixes=suffixes, mask_endings=MASK_ENDINGS
        )
    pairing.refuse(source)
    settings = {**names._asdict(), "encoding": encoding, "values": values}
    return SourceDataset("convert folders", source, class_table(definitions, labels), splits, settings, pairing.skipped)


def _mask_maker(
    definitions: tuple[LabelDefinition, ...], encoding: Encoding, labels: Path
) -> tuple[Callable[[Path], MaskSource], list[str]]:
    """How the mask of a file is made, and its values as short texts: they decide the masks.

    Raises:
        ValueError: An id or a colour stands for two classes; names all of them.
    """
    by_id: dict[int, int] = {}
    by_color: dict[Rgb, int] = {}
    problems = []
    for label in definitions:
        value = train_id_or_ignore(label)
        if encoding == "color":
            known, what = by_color.setdefault(label.color, value), f"the colour {label.color}"
        elif label.id >= 0:
            known, what = by_id.setdefault(label.id, value), f"the id {label.id}"
        else:
            continue
        if known != value:
            problems.append(f"{label.name}: {what} already stands for the train id {known}, here it is {value}")
    if problems:
        raise ValueError(f"{labels}: " + "; ".join(problems))
    values = [f"{key} -> {value}" for key, value in sorted((by_id or by_color).items())]
    if encoding == "index":
        return partial(IndexMask, train_ids=by_id), values
    return partial(ColorMask, train_ids=by_color), values


def _split_folders(images: Path, masks: Path) -> dict[str, str]:
    """Folder of each split, below the images and the masks."""
    folders = [path.name for path in subfolders(images) if (masks / path.name).is_dir()]
    return {split: folder for folder, split in name_splits(folders).items()} or {"train": "."}
