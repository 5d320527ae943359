"""Writes a synthetic dataset in Cityscapes' folder form, and makes its masks with the toolkit's own label-ids code.

    leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
    gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_polygons.json and ..._labelTrainIds.png
    dataset.yaml, labels.yaml, train.txt, val.txt (test.txt), made_by.json

Images are independent of each other, so a run that was cut off goes on, and several processes can share the work.
"""

from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2

from dataset_tools.config import SPLITS, Split, SynthesizeConfig
from dataset_tools.description import DatasetDescription, save_description
from dataset_tools.files import claim_folder, record_made
from dataset_tools.labels import CITYSCAPES_LABELS, LabelDefinition, save_labels
from dataset_tools.masks import write_mask
from dataset_tools.polygons import POLYGON_SUFFIX, load_polygons, mask_path_of, paint_mask, polygons_to_json
from dataset_tools.samples import Sample
from dataset_tools.synthesis.render import render_image
from fasterseg.base.console import tracked
from fasterseg.base.files import write_bytes, write_text
from fasterseg.base.stopping import leave_stopping_to_parent

# Changes whenever the same settings give other images, so that an older folder is not silently continued.
GENERATOR_VERSION = 2
IMAGES_PER_SEQUENCE = 20
_IMAGES_PER_JOB = 16
# Noisy images hold few repeats: searching for them costs time and makes larger files.
_PNG_OPTIONS = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY)

# Classes in the order of their train ids, with the labels that count as each.
_CLASS_LABELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("road", ("road",)),
    ("sidewalk", ("sidewalk",)),
    ("building", ("building",)),
    ("pole and sign", ("pole", "traffic sign")),
    ("vegetation", ("vegetation",)),
    ("sky", ("sky",)),
    ("person", ("person",)),
    ("car", ("car",)),
)


def _synthetic_labels() -> tuple[LabelDefinition, ...]:
    """Cityscapes' definitions with the train ids of the synthetic classes."""
    train_ids = {label: train_id for train_id, (_, labels) in enumerate(_CLASS_LABELS) for label in labels}
    used = (label for label in CITYSCAPES_LABELS if label.name in train_ids or label.name == "unlabeled")
    return tuple(label.model_copy(update={"train_id": train_ids.get(label.name, label.train_id)}) for label in used)


SYNTHETIC_LABELS = _synthetic_labels()
_BY_NAME = {label.name: label for label in SYNTHETIC_LABELS}
CLASS_NAMES = tuple(name for name, _ in _CLASS_LABELS)
CLASS_COLORS = tuple(_BY_NAME[labels[0]].color for _, labels in _CLASS_LABELS)
CLASS_LABEL_IDS = tuple(_BY_NAME[labels[0]].id for _, labels in _CLASS_LABELS)


class ImageJob(NamedTuple):
    """One image to make: its files and the numbers that decide it."""

    image: Path
    polygons: Path
    image_size: tuple[int, int]
    seed: tuple[int, ...]

    @property
    def mask(self) -> Path:
        """Where the mask goes."""
        return mask_path_of(self.polygons, "train-ids")

    @property
    def done(self) -> bool:
        """Whether all three files exist. Files are renamed into place, so one that exists is complete."""
        return self.image.exists() and self.polygons.exists() and self.mask.exists()


def list_jobs(root: Path, config: SynthesizeConfig, split: Split) -> list[ImageJob]:
    """The images of a split, made or not, in list order."""
    jobs = []
    for number in range(config.count(split)):
        city = config.cities[number % len(config.cities)]
        sequence, frame = divmod(number // len(config.cities), IMAGES_PER_SEQUENCE)
        stem = f"{city}_{sequence:06d}_{frame:06d}"
        image = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
        polygons = root / "gtFine" / split / city / f"{stem}_gtFine{POLYGON_SUFFIX}"
        jobs.append(ImageJob(image, polygons, config.image_size, (config.seed, SPLITS.index(split), number)))
    return jobs


def make_image(job: ImageJob) -> None:
    """Renders an image and writes its files; the mask is painted from the polygon file as it was written."""
    rendered = render_image(job.image_size, job.seed)
    bgr = cv2.cvtColor(rendered.image, cv2.COLOR_RGB2BGR)
    written, data = cv2.imencode(".png", bgr, _PNG_OPTIONS)
    assert written, "OpenCV always encodes 8-bit PNG"
    write_bytes(job.image, data.tobytes())
    write_text(job.polygons, polygons_to_json(rendered.polygons))
    write_mask(job.mask, paint_mask(load_polygons(job.polygons), SYNTHETIC_LABELS, source=str(job.polygons)))


def synthesize(root: Path, config: SynthesizeConfig, *, workers: int = 1, progress: bool = True) -> int:
    """Makes a synthetic dataset, or goes on with one.

    Args:
        root: The dataset folder: new, empty, or made with the same settings.
        config: Decides every byte of the dataset.
        workers: Processes; the result does not depend on it.
        progress: Show a progress bar with the time left.

    Returns:
        How many images were made now; those that existed are kept.

    Raises:
        ValueError: The folder holds something else, or a dataset made with other settings; workers is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected 1 or more")
    claim_folder(root, tool="synthesize", settings={**config.model_dump(), "generator_version": GENERATOR_VERSION})
    jobs = {split: list_jobs(root, config, split) for split in SPLITS if config.count(split)}
    todo = [job for split_jobs in jobs.values() for job in split_jobs if not job.done]
    for _ in tracked(_made(todo, workers), "synthesize", total=len(todo), disable=not (progress and todo)):
        pass
    _describe(root, jobs)
    return len(todo)


def _made(todo: list[ImageJob], workers: int) -> Iterable[None]:
    """Makes the images in this process or in others, and yields after each."""
    if workers == 1 or len(todo) <= _IMAGES_PER_JOB:
        yield from map(make_image, todo)
        return
    # Spawned, not forked: a forked copy of a process that runs PyTorch or OpenCV threads may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=leave_stopping_to_parent) as pool:
        yield from pool.map(make_image, todo, chunksize=_IMAGES_PER_JOB)


def _describe(root: Path, jobs: dict[Split, list[ImageJob]]) -> None:
    """Writes labels.yaml, dataset.yaml and the lists."""
    save_labels(root / "labels.yaml", SYNTHETIC_LABELS)
    description = DatasetDescription(
        root=root,
        name="synthetic streets",
        class_names=CLASS_NAMES,
        colors=CLASS_COLORS,
        label_ids=CLASS_LABEL_IDS,
        splits={split: tuple(Sample(job.image, job.mask) for job in split_jobs) for split, split_jobs in jobs.items()},
    )
    save_description(description)
    polygons = (job.polygons for split_jobs in jobs.values() for job in split_jobs)
    record_made(root, [root / "labels.yaml", *polygons], keep_marks=True)
