"""Predictions written to disk, of an image or a folder of images whose structure is kept.

The command `fasterseg predict` uses it. So do training stages that predict their test split every few epochs, with
`Predictor.from_network` of the network in training.
"""

import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasterseg.base.console import epoch_progress
from fasterseg.base.files import replacing
from fasterseg.base.images import read_image, write_png
from fasterseg.base.pictures import colorize, overlay
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.runtime.choices import DEFAULT_KINDS, IMAGE_SUFFIXES, PictureKind
from fasterseg.runtime.predictor import ClassIds, Predictor

_IMAGE_SUFFIX = "_leftImg8bit"
_SUBMISSION_SUFFIX = "_labelIds.png"
_MAX_LABEL_ID = 255


@dataclass(frozen=True)
class PredictionOutputs:
    """What is written for each prediction.

    Attributes:
        kinds: Pictures to write, each into the folder of its name.
        submission: Zip of label-id pictures for the Cityscapes server, or None.
        overwrite: Whether existing files may be replaced.
        opacity: How strongly the colours cover the image in an overlay, 0..1.

    Raises:
        ValueError: The opacity is out of range, or nothing is to be written.
    """

    kinds: tuple[PictureKind, ...] = DEFAULT_KINDS
    submission: Path | None = None
    overwrite: bool = False
    opacity: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.opacity <= 1:
            raise ValueError(f"opacity is {self.opacity}, expected 0 (image only) to 1 (colours only)")
        if not self.kinds and self.submission is None:
            raise ValueError("nothing is to be written: name at least one kind of picture, or a submission file")


@dataclass(frozen=True)
class PredictionReport:
    """What a prediction run wrote.

    Attributes:
        count: Images, or frames of a video.
        written: The folders and files it wrote to.
        duration_s: Seconds it took, reading and writing included.
    """

    count: int
    written: tuple[Path, ...]
    duration_s: float


def find_images(folder: Path, *, excluding: Path | None = None) -> list[Path]:
    """All images in a folder and its subfolders, sorted, except those under `excluding` (our own output).

    Raises:
        ValueError: There is none.
    """
    found = [path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    if excluding is not None:
        outputs = excluding.resolve()
        found = [path for path in found if not path.resolve().is_relative_to(outputs)]
    if not found:
        raise ValueError(f"{folder} holds no image; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    return sorted(found)


def predict_images(
    predictor: Predictor,
    images: Sequence[Path],
    out: Path,
    *,
    root: Path | None = None,
    outputs: PredictionOutputs | None = None,
    description: str = "predict",
) -> PredictionReport:
    """Predicts images and writes pictures to `out/<kind>/<image's path below root>.png`.

    Args:
        predictor: The trained network.
        images: Files to predict.
        out: The folder to write to.
        root: Folder whose structure the output keeps; None writes all pictures of a kind into one folder.
        outputs: What to write.
        description: Name on the progress bar.

    Raises:
        FileNotFoundError: An image is missing.
        ValueError: An image cannot be read, two images would be written to one file, a file exists already, or label
            ids are asked for and the dataset has none.
    """
    chosen = outputs or PredictionOutputs()
    targets = _plan(images, root)
    if chosen.submission is not None or PictureKind.LABEL_IDS in chosen.kinds:
        check_label_ids(predictor.dataset)
    if chosen.submission is not None:
        _refuse_duplicates(images, [submission_name(image) for image in images])
    if not chosen.overwrite:
        _refuse_existing([out / kind / target for kind in chosen.kinds for target in targets], chosen.submission)
    started_s = time.monotonic()
    with ExitStack() as stack:
        progress = stack.enter_context(epoch_progress(description, len(images)))
        archive = None if chosen.submission is None else stack.enter_context(submission_archive(chosen.submission))
        for path, target in zip(images, targets, strict=True):
            image = read_image(path)
            ids = predictor.predict(image)
            for kind in chosen.kinds:
                drawn = picture(kind, image, ids, predictor.dataset, opacity=chosen.opacity)
                write_png(out / kind / target, drawn)
            if archive is not None:
                archive.add(path, to_label_ids(ids, predictor.dataset))
            progress.advance()
    written = [out / kind for kind in chosen.kinds] + ([chosen.submission] if chosen.submission else [])
    return PredictionReport(len(images), tuple(written), time.monotonic() - started_s)


def _plan(images: Sequence[Path], root: Path | None) -> list[Path]:
    """The relative path of each image's pictures."""
    if not images:
        raise ValueError("there is no image to predict")
    targets = [Path(path.name) if root is None else path.relative_to(root) for path in images]
    targets = [target.with_suffix(".png") for target in targets]
    _refuse_duplicates(images, [str(target) for target in targets])
    return targets


def _refuse_duplicates(images: Sequence[Path], names: Sequence[str]) -> None:
    """Refuses two images whose pictures would have one name."""
    first: dict[str, Path] = {}
    for image, name in zip(images, names, strict=True):
        if name in first:
            raise ValueError(f"{first[name]} and {image} would both be written as {name}; rename one of them")
        first[name] = image


def _refuse_existing(pictures: Sequence[Path], submission: Path | None) -> None:
    existing = [path for path in (*pictures, *([submission] if submission else [])) if path.exists()]
    if existing:
        raise ValueError(
            f"{existing[0]} exists already ({len(existing)} file(s) in all); choose another --out, or pass "
            "--overwrite to replace them"
        )


def check_label_ids(dataset: DatasetFacts) -> None:
    """Checks that label-id pictures can be written.

    Raises:
        ValueError: The dataset has no ids of a source labelling, or one does not fit a byte.
    """
    if dataset.label_ids is None:
        raise ValueError(
            "label ids are asked for, but the model's dataset has none: its dataset.yaml gives no label_id per class"
        )
    unfit = [
        f"{name} {label}"
        for name, label in zip(dataset.class_names, dataset.label_ids, strict=True)
        if not 0 <= label <= _MAX_LABEL_ID
    ]
    if unfit:
        raise ValueError(f"label ids must lie in 0..{_MAX_LABEL_ID} to be written as 8-bit pictures; got {unfit}")


def to_label_ids(ids: ClassIds, dataset: DatasetFacts) -> NDArray[np.uint8]:
    """Train ids (H, W) as the ids of the source labelling, such as Cityscapes' 7 for road."""
    check_label_ids(dataset)
    picture: NDArray[np.uint8] = np.asarray(dataset.label_ids, dtype=np.uint8)[ids]
    return picture


def picture(
    kind: PictureKind, image: NDArray[np.uint8], ids: ClassIds, dataset: DatasetFacts, *, opacity: float
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """One kind of picture of a prediction: (H, W) ids, or RGB (H, W, 3) uint8."""
    match kind:
        case PictureKind.INDEX:
            return ids
        case PictureKind.LABEL_IDS:
            return to_label_ids(ids, dataset)
        case PictureKind.COLOR:
            return colorize(ids, dataset.colors)
        case PictureKind.OVERLAY:
            return overlay(image, colorize(ids, dataset.colors), opacity)


class SubmissionArchive:
    """A zip of label-id pictures named after their images, as the Cityscapes server reads them."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def add(self, image_path: Path, label_ids: NDArray[np.uint8]) -> None:
        """Adds the prediction of one image."""
        with self._archive.open(submission_name(image_path), "w") as file:
            Image.fromarray(label_ids).save(file, format="PNG")


def submission_name(image_path: Path) -> str:
    """The name of an image's prediction in the archive: `<city>_<sequence>_<frame>_labelIds.png`.

    Source: Cityscapes scripts, evalPixelLevelSemanticLabeling (one file per image, matched by its first three parts).
    """
    return image_path.stem.removesuffix(_IMAGE_SUFFIX) + _SUBMISSION_SUFFIX


@contextmanager
def submission_archive(path: Path) -> Iterator[SubmissionArchive]:
    """Writes a submission zip through a temporary name; PNGs are stored as they are."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        yield SubmissionArchive(archive)
