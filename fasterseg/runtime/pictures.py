"""What a prediction is written as: index, colour, overlay and label-id pictures, and the submission archive.

Masks go through Pillow, never through OpenCV, so that an index stays an index.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fasterseg.base.files import replacing
from fasterseg.base.pictures import colorize, overlay
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.runtime.choices import PictureKind
from fasterseg.runtime.predictor import ClassIds

_IMAGE_SUFFIX = "_leftImg8bit"
_SUBMISSION_SUFFIX = "_labelIds.png"
_MAX_LABEL_ID = 255


def check_label_ids(dataset: DatasetFacts) -> None:
    """Makes sure that label-id pictures can be written.

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
    """One kind of picture of a prediction."""
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
