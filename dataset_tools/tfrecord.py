"""TFRecord files of the segmentation schema that the TensorFlow ports use, in and out; without TensorFlow.

Each record is an example with `image/encoded`, `image/format`, `image/filename`, `image/height`, `image/width`,
`image/segmentation/class/encoded` and `image/segmentation/class/format`. `tfrecord_files` reads the records; they are
written by the package `tfrecord`.
"""

import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track
from tfrecord.writer import TFRecordWriter

from dataset_tools.dataset import Sample, read_label
from dataset_tools.description import DatasetDescription, relative_name, save_description
from dataset_tools.files import claim_folder, record_made
from dataset_tools.labels import IGNORE_TRAIN_ID, LabelDefinition, class_table, load_labels, save_labels
from dataset_tools.tfrecord_files import FORMATS, Record, list_files, read_records, split_of
from fasterseg.base.files import replacing, write_bytes
from fasterseg.base.images import described, read_image

LABELS_NAME = "labels.yaml"


def write_tfrecords(
    description: DatasetDescription,
    out: Path,
    *,
    images_per_file: int = 500,
    dry_run: bool = False,
    progress: bool = True,
) -> dict[Path, int]:
    """Writes every split as `<split>-00000-of-00004.tfrecord` and so on, and the classes as `labels.yaml`.

    Images are written as they are encoded, masks as 8-bit grey PNG of train ids.

    Args:
        description: The dataset.
        out: Folder to write to: new, empty or of an earlier run; files that exist are kept.
        images_per_file: Most images of one file.
        dry_run: Write nothing.
        progress: Show a progress bar.

    Returns:
        Images of each file.

    Raises:
        FileNotFoundError: An image or mask is missing.
        ValueError: The folder holds something else, or a file cannot be read or is neither PNG nor JPEG.
    """
    if images_per_file < 1:
        raise ValueError(f"images_per_file is {images_per_file}, expected 1 or more")
    shards: dict[Path, tuple[Sample, ...]] = {}
    for split, samples in description.splits.items():
        count = -(-len(samples) // images_per_file)
        for number in range(count):
            part = samples[number * images_per_file : (number + 1) * images_per_file]
            shards[out / f"{split}-{number:05d}-of-{count:05d}.tfrecord"] = part
    if not dry_run:
        settings = {"dataset": description.digest(), "images_per_file": images_per_file}
        claim_folder(out, tool="tfrecord write", settings=settings)
        save_labels(out / LABELS_NAME, _labels_of(description))
        for path, samples in track(shards.items(), description="tfrecord", disable=not progress):
            if not path.exists():
                _write_shard(path, samples, description)
        record_made(out, [out / LABELS_NAME, *shards], keep_marks=True)
    return {path: len(samples) for path, samples in shards.items()}


def _labels_of(description: DatasetDescription) -> list[LabelDefinition]:
    """The classes as label definitions."""
    ids = description.label_ids or range(description.num_classes)
    return [
        LabelDefinition(name=name, id=label_id, train_id=train_id, color=color)
        for train_id, (name, label_id, color) in enumerate(
            zip(description.class_names, ids, description.colors, strict=True)
        )
    ]


def _write_shard(path: Path, samples: Sequence[Sample], description: DatasetDescription) -> None:
    """Writes one file, whole or not at all."""
    with replacing(path) as temporary:
        writer = TFRecordWriter(str(temporary))
        try:
            for sample in samples:
                writer.write(_features(sample, description))
        finally:
            writer.close()


def _features(sample: Sample, description: DatasetDescription) -> dict[str, tuple[bytes | int, str]]:
    """The example of a sample, as the writer takes it."""
    pixels = read_image(sample.image, sample.origin)
    encoded = sample.image.read_bytes()
    kind = next((name for name, (_, start) in FORMATS.items() if encoded.startswith(start)), None)
    if kind is None:
        raise ValueError(
            f"{described(sample.image, sample.origin)} is neither PNG nor JPEG, which TFRecord readers need"
        )
    size = (pixels.shape[0], pixels.shape[1])
    name = relative_name(sample.image, description.root)
    features: dict[str, tuple[bytes | int, str]] = {
        "image/encoded": (encoded, "byte"),
        "image/format": (kind.encode(), "byte"),
        "image/filename": (name.encode("utf-8", "surrogateescape"), "byte"),
        "image/height": (size[0], "int"),
        "image/width": (size[1], "int"),
    }
    if sample.mask is not None:
        label = read_label(sample, size, num_classes=description.num_classes, ignore_index=description.ignore_index)
        train_ids = np.where(label == description.ignore_index, IGNORE_TRAIN_ID, label)
        features["image/segmentation/class/encoded"] = (_png(train_ids), "byte")
        features["image/segmentation/class/format"] = (b"png", "byte")
    return features


def _png(label: NDArray[np.integer]) -> bytes:
    """Ids as an 8-bit grey PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label.astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()


def read_tfrecords(
    source: Path, out: Path, *, labels: Path | None = None, name: str = "tfrecord", progress: bool = True
) -> DatasetDescription:
    """Makes a dataset folder of TFRecord files, one split per file or group of shards.

    Args:
        source: A file, or the folder of the files.
        out: Dataset folder: new, empty, or left by a run that was cut off, which then goes on.
        labels: Label definitions with the classes of the masks; `labels.yaml` beside the files when None.
        name: Name of the dataset.
        progress: Show a progress bar.

    Returns:
        The description, as written.

    Raises:
        FileNotFoundError: There are no files, or no label definitions.
        ValueError: A file is damaged, a record lacks a feature, an image does not have the size that its record says,
            a mask holds a value outside the classes, or two records of a split have one name.
    """
    files = list_files(source)
    beside = (source if source.is_dir() else source.parent) / LABELS_NAME
    definitions = labels or beside
    if labels is None and not beside.is_file():
        raise FileNotFoundError(f"TFRecord files do not name their classes and {beside} is missing; give --labels FILE")
    classes = class_table(load_labels(definitions), definitions)
    settings = {"source": str(source.resolve()), "files": [path.name for path in files], "classes": classes.names}
    claim_folder(out, tool="tfrecord read", settings=settings)
    splits: dict[str, list[Sample]] = {}
    owner: dict[Path, str] = {}
    for path in track(files, description="tfrecord", disable=not progress):
        split = split_of(path)
        for record in read_records(path):
            sample = _write_pair(record, out, split, num_classes=len(classes.names))
            if sample.image in owner:
                raise ValueError(f"{record.origin} and {owner[sample.image]} have one name, {record.filename!r}")
            owner[sample.image] = record.origin
            splits.setdefault(split, []).append(sample)
    description = DatasetDescription(
        root=out,
        name=name,
        class_names=classes.names,
        colors=classes.colors,
        label_ids=classes.label_ids,
        splits={split: tuple(samples) for split, samples in splits.items()},
    )
    save_description(description)
    return description


def _write_pair(record: Record, out: Path, split: str, *, num_classes: int) -> Sample:
    """Writes the image and mask of a record as they are encoded, and checks them."""
    parts = [part for part in PurePosixPath(record.filename.replace("\\", "/")).parts if part not in ("/", "..")]
    ending, start = FORMATS[record.image_format]
    if not parts or not record.image.startswith(start):
        raise ValueError(f"{record.origin}: {record.filename!r} is no name, or its image is no {record.image_format}")
    inner = Path(*parts)
    inner = inner.with_name(inner.stem)
    image = out / "images" / split / inner.with_name(inner.name + ending)
    mask = None if record.mask is None else out / "masks" / split / inner.with_name(f"{inner.name}.png")
    sample = Sample(image, mask, record.origin)
    for path, data in ((image, record.image), (mask, record.mask)):
        if path is not None and data is not None and not (path.is_file() and path.stat().st_size == len(data)):
            write_bytes(path, data)
    pixels = read_image(image, record.origin)
    size = (pixels.shape[0], pixels.shape[1])
    if record.size not in (size, (-1, -1)):
        raise ValueError(f"{record.origin}: the image is {size}, image/height and image/width say {record.size}")
    read_label(sample, size, num_classes=num_classes, ignore_index=IGNORE_TRAIN_ID)
    return sample
