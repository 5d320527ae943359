"""CamVid to a dataset folder of 11 classes, from either form it is distributed in.

SegNet's layout: `train/X.png` with `trainannot/X.png`, ids 0..11, 11 is void. The original: `701_StillsRaw_full/X.png`
with `LabeledApproved_full/X_L.png` in 32 colours, without splits; or the same masks already split into `train`,
`train_labels` and so on. The colours become SegNet's classes, and its split is made by frame number.

Source: Brostow et al., "Semantic object classes in video: a high-definition ground truth database", 2009 (32 colours);
Badrinarayanan et al., "SegNet", 2017 (11 classes and the 367/101/233 split).
"""

import re
from functools import partial
from pathlib import Path

from dataset_tools.convert.pairing import Pairing, Unmatched, pair_folders
from dataset_tools.convert.source import ColorMask, IndexMask, SourceDataset, SourceImage
from dataset_tools.labels import IGNORE_TRAIN_ID, ClassTable
from dataset_tools.masks import Rgb

SPLITS = ("train", "val", "test")
_VOID_ID = 11
_ORIGINAL_IMAGES, _ORIGINAL_MASKS = "701_StillsRaw_full", "LabeledApproved_full"
_ORIGINAL_SUFFIX = "_L"

_CLASSES: tuple[tuple[str, Rgb], ...] = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("pavement", (60, 40, 222)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
CAMVID_CLASSES = ClassTable(tuple(name for name, _ in _CLASSES), tuple(color for _, color in _CLASSES))
CAMVID_IDS = {**{train_id: train_id for train_id in range(len(_CLASSES))}, _VOID_ID: IGNORE_TRAIN_ID}

# The 32 colours of the original, by the class they count as.
_ORIGINAL_COLORS: dict[str | None, tuple[Rgb, ...]] = {
    "sky": ((128, 128, 128),),
    "building": (
        (128, 0, 0),
        (0, 128, 64),  # bridge
        (64, 192, 0),  # wall
        (64, 0, 64),  # tunnel
        (192, 0, 128),  # archway
    ),
    "pole": ((192, 192, 128), (0, 0, 64)),  # column, traffic cone
    "road": ((128, 64, 128), (128, 0, 192), (192, 0, 64)),  # and its markings
    "pavement": ((0, 0, 192), (64, 192, 128), (128, 128, 192)),  # sidewalk, parking block, road shoulder
    "tree": ((128, 128, 0), (192, 192, 0)),  # and other vegetation
    "sign": ((192, 128, 128), (128, 128, 64), (0, 64, 64)),  # and other text, traffic light
    "fence": ((64, 64, 128),),
    "car": (
        (64, 0, 128),
        (64, 128, 192),  # pickup
        (192, 128, 192),  # truck, bus
        (192, 64, 128),  # train
        (128, 64, 64),  # other moving
    ),
    "pedestrian": ((64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)),  # child, cart or pram, animal
    "bicyclist": ((0, 128, 192), (192, 0, 192)),  # and motorcycle
    None: ((0, 0, 0),),  # void
}
ORIGINAL_TRAIN_IDS: dict[Rgb, int] = {
    color: IGNORE_TRAIN_ID if name is None else CAMVID_CLASSES.names.index(name)
    for name, colors in _ORIGINAL_COLORS.items()
    for color in colors
}

_FRAME = re.compile(r"(?P<drive>\w+?)_f?(?P<number>\d+)")


def segnet_split(name: str) -> str:
    """The split that SegNet put a frame of the original into.

    Args:
        name: Name of the frame, such as `0016E5_07959` or `Seq05VD_f00000`.

    Raises:
        ValueError: The name is not one of CamVid's.
    """
    frame = _FRAME.fullmatch(name)
    if frame is None or frame["drive"] not in ("0001TP", "0006R0", "0016E5", "Seq05VD"):
        raise ValueError(f"{name} is no frame of CamVid (0001TP_*, 0006R0_*, 0016E5_* or Seq05VD_*)")
    drive, number = frame["drive"], int(frame["number"])
    if drive == "Seq05VD" or (drive == "0001TP" and number >= 8550):
        return "test"
    return "val" if drive == "0016E5" and 7959 <= number <= 8159 else "train"


def read_camvid(source: Path, *, unmatched: Unmatched = "error") -> SourceDataset:
    """Lists CamVid.

    Args:
        source: The folder, in SegNet's layout or the original one; only read.
        unmatched: What becomes of images without a mask and masks without an image: an error, or left out.

    Returns:
        The source.

    Raises:
        FileNotFoundError: The folder has neither layout; names what is missing.
        ValueError: An image without a mask, a mask without an image, two images of one stem, or an empty folder; names
            all of them.
    """
    pairing = Pairing(unmatched)
    if (source / _ORIGINAL_MASKS).is_dir():
        layout, splits = "original", _original(source, pairing)
    elif (source / f"{SPLITS[0]}_labels").is_dir():
        layout, splits = "original, split", _split_folders(source, "_labels", pairing)
    else:
        layout, splits = "SegNet", _split_folders(source, "annot", pairing)
    pairing.refuse(source)
    return SourceDataset(
        "convert camvid", source, CAMVID_CLASSES, splits, {"layout": layout}, pairing.skipped, name="CamVid"
    )


def _split_folders(source: Path, mask_folder_suffix: str, pairing: Pairing) -> dict[str, list[SourceImage]]:
    """The images of a layout that has two folders per split."""
    folders = [source / f"{split}{kind}" for split in SPLITS for kind in ("", mask_folder_suffix)]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileNotFoundError(
            f"not CamVid: missing {', '.join(missing)}; expected train, trainannot, val, valannot, test and testannot "
            f"(SegNet), or {_ORIGINAL_IMAGES} and {_ORIGINAL_MASKS} (original), in {source}"
        )
    pairs = [(split, source / split, source / f"{split}{mask_folder_suffix}") for split in SPLITS]
    if mask_folder_suffix == "annot":
        make = partial(IndexMask, train_ids=CAMVID_IDS)
        return {split: pair_folders(images, masks, make, pairing) for split, images, masks in pairs}
    return {split: _pair_original(images, masks, pairing) for split, images, masks in pairs}


def _original(source: Path, pairing: Pairing) -> dict[str, list[SourceImage]]:
    """The images of the original, split as SegNet did."""
    if not (source / _ORIGINAL_IMAGES).is_dir():
        raise FileNotFoundError(f"missing {source / _ORIGINAL_IMAGES}; it belongs beside {_ORIGINAL_MASKS}")
    images = _pair_original(source / _ORIGINAL_IMAGES, source / _ORIGINAL_MASKS, pairing)
    pairing.refuse(source)
    splits: dict[str, list[SourceImage]] = {split: [] for split in SPLITS}
    for image in images:
        splits[segnet_split(image.name)].append(image)
    return splits


def _pair_original(images: Path, masks: Path, pairing: Pairing) -> list[SourceImage]:
    """Images and masks in the original's names and colours."""
    make = partial(ColorMask, train_ids=ORIGINAL_TRAIN_IDS)
    return pair_folders(images, masks, make, pairing, suffixes=("", _ORIGINAL_SUFFIX))
