"""BDD100K's semantic segmentation (10,000 images) to a dataset folder.

    images/10k/<split>/X.jpg with labels/sem_seg/masks/<split>/X.png        as distributed since 2021
    images/<split>/X.jpg with labels/<split>/X_train_id.png                 the older `seg` folder

Masks hold Cityscapes' 19 train ids and 255. Source: Yu et al., "BDD100K", CVPR 2020, and its documentation of the label
format.
"""

from functools import partial
from pathlib import Path

from dataset_tools.convert.pairing import Pairing, Unmatched, images_alone, need_folders, pair_folders, subfolders
from dataset_tools.convert.source import IndexMask, SourceDataset, SourceImage
from dataset_tools.labels import CITYSCAPES_LABELS, IGNORE_TRAIN_ID, ClassTable, class_table

_CITYSCAPES = class_table(CITYSCAPES_LABELS, "Cityscapes")
# The labelling of the masks is the train ids themselves.
BDD100K_CLASSES = ClassTable(_CITYSCAPES.names, _CITYSCAPES.colors, tuple(range(len(_CITYSCAPES.names))))
_TRAIN_IDS = {value: value for value in (*range(len(_CITYSCAPES.names)), IGNORE_TRAIN_ID)}
_UNPUBLISHED_SPLIT = "test"


def read_bdd100k(source: Path, *, unmatched: Unmatched = "error") -> SourceDataset:
    """Lists BDD100K.

    Args:
        source: The folder that holds `images` and `labels`; only read. Images of `test`, whose labels are not public,
            are taken without masks.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: A folder is missing.
        ValueError: Images and masks do not match; names all of them.
    """
    layout, suffix, images, labels = "seg", "_train_id", source / "images", source / "labels"
    if (images / "10k").is_dir():
        layout, suffix, images, labels = "10k", "", images / "10k", labels / "sem_seg" / "masks"
    need_folders(
        [images / "train", labels / "train"],
        f"BDD100K's images/10k/<split> and labels/sem_seg/masks/<split>, or the older images/<split> and "
        f"labels/<split>, in {source}",
    )
    make = partial(IndexMask, train_ids=_TRAIN_IDS)
    pairing = Pairing(unmatched)
    splits: dict[str, list[SourceImage]] = {}
    for folder in subfolders(images):
        masks = labels / folder.name
        if folder.name == _UNPUBLISHED_SPLIT and not masks.is_dir():
            splits[folder.name] = images_alone(folder, pairing.problems)
            continue
        if pairing.has_folder(masks, folder, "the masks of"):
            splits[folder.name] = pair_folders(folder, masks, make, pairing, suffixes=("", suffix))
    pairing.refuse(source)
    return SourceDataset(
        "convert bdd100k", source, BDD100K_CLASSES, splits, {"layout": layout}, pairing.skipped, name="BDD100K"
    )
