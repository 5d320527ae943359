"""CamVid in SegNet's layout (`train/X.png`, `trainannot/X.png`, ids 0..11) to a dataset folder.

Source: Brostow et al., "Semantic object classes in video: a high-definition ground truth database", 2009; 11 classes
and the 367/101/233 split of Badrinarayanan et al., "SegNet", 2017.
"""

from pathlib import Path

from dataset_tools.convert.output import ClassTable, ImageMode, SourcePair, write_dataset
from dataset_tools.description import DatasetDescription

SPLITS = ("train", "val", "test")
_IMAGE_ENDINGS = frozenset((".png", ".jpg", ".jpeg"))
_VOID_ID = 11
_IGNORE_INDEX = 255

_CLASSES: tuple[tuple[str, tuple[int, int, int]], ...] = (
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
CAMVID_CLASSES = ClassTable(
    names=tuple(name for name, _ in _CLASSES),
    colors=tuple(color for _, color in _CLASSES),
    train_ids={**{train_id: train_id for train_id in range(len(_CLASSES))}, _VOID_ID: _IGNORE_INDEX},
)


def list_pairs(source: Path) -> dict[str, list[SourcePair]]:
    """Pairs images and masks by their exact stem.

    Args:
        source: The CamVid folder.

    Returns:
        The pairs of each split, by name.

    Raises:
        FileNotFoundError: Folders are missing; names all of them.
        ValueError: An image without a mask, a mask without an image, two images of one stem, or an empty folder; names
            all of them.
    """
    folders = [source / f"{split}{kind}" for split in SPLITS for kind in ("", "annot")]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise FileNotFoundError(
            f"not CamVid in SegNet's layout: missing {', '.join(missing)}; expected train, trainannot, val, valannot, "
            f"test and testannot in {source}"
        )
    problems: list[str] = []
    pairs = {split: _pairs_of(source / split, source / f"{split}annot", problems) for split in SPLITS}
    if problems:
        raise ValueError(f"{source}: images and masks do not match:\n  " + "\n  ".join(problems))
    return pairs


def _pairs_of(image_folder: Path, mask_folder: Path, problems: list[str]) -> list[SourcePair]:
    """Pairs one split; what does not match is added to the problems."""
    images: dict[str, Path] = {}
    for path in sorted(image_folder.iterdir()):
        if path.suffix.lower() not in _IMAGE_ENDINGS:
            continue
        if path.stem in images:
            problems.append(f"two images of one name: {images[path.stem]} and {path}")
        images[path.stem] = path
    masks = {path.stem: path for path in mask_folder.glob("*.png")}
    problems.extend(f"no mask for {images[stem]}" for stem in sorted(images.keys() - masks.keys()))
    problems.extend(f"no image for {masks[stem]}" for stem in sorted(masks.keys() - images.keys()))
    if not images:
        problems.append(f"no images in {image_folder}")
    return [SourcePair(stem, images[stem], masks[stem]) for stem in sorted(images.keys() & masks.keys())]


def convert_camvid(
    source: Path, out: Path, *, image_mode: ImageMode = "link", progress: bool = True
) -> DatasetDescription:
    """Makes a dataset folder of CamVid.

    Args:
        source: Folder in SegNet's layout; only read.
        out: Dataset folder: new, empty, or left by a conversion of the same source that was cut off.
        image_mode: Link images to the source (default) or copy them.
        progress: Show progress bars.

    Returns:
        The description, as written.

    Raises:
        FileNotFoundError: The source or one of its folders is missing.
        ValueError: Images and masks do not match, a mask holds an unknown value, or `out` holds something else.
    """
    splits = list_pairs(source)
    return write_dataset(
        out,
        tool="convert camvid",
        name="CamVid",
        source=source,
        classes=CAMVID_CLASSES,
        splits=splits,
        image_mode=image_mode,
        progress=progress,
    )
