"""TFRecord files of the segmentation schema that the TensorFlow ports use, in and out; without TensorFlow.

Each record is an example with `image/encoded`, `image/format`, `image/filename`, `image/height`, `image/width`,
`image/segmentation/class/encoded` and `image/segmentation/class/format`.

The messages are the package `tfrecord`'s, the extra of that name; the framing is read here, because that package does
not look at the checksums.
"""

import gzip
import hashlib
import importlib.util
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple, cast

import numpy as np

from dataset_tools.description import DatasetDescription, relative_name, save_description
from dataset_tools.files import claim_folder, record_made
from dataset_tools.labels import IGNORE_TRAIN_ID, LabelDefinition, class_table, load_labels, save_labels
from dataset_tools.masks import encode_mask
from dataset_tools.paths import find_paths, without_image_ending
from dataset_tools.samples import Sample, read_label
from fasterseg.base.console import tracked
from fasterseg.base.files import file_digest, replacing, write_bytes
from fasterseg.base.images import described, read_image

LABELS_NAME = "labels.yaml"
FORMATS = {"png": (".png", b"\x89PNG\r\n\x1a\n"), "jpeg": (".jpg", b"\xff\xd8\xff"), "jpg": (".jpg", b"\xff\xd8\xff")}
_ENDINGS = (".tfrecord", ".tfrecords")
_SHARD = re.compile(r"(?P<split>.+?)-\d+-of-\d+")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_LONGEST_RECORD_BYTES = 2**31 - 1


def _need_packages() -> None:
    """Checks that the packages of the extra `tfrecord` are there.

    Raises:
        ValueError: Names those that are not, and how to install them.
    """
    missing = [name for name in ("tfrecord", "crc32c") if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"TFRecord files need the packages {' and '.join(missing)}, not installed here; install them with "
            "`pip install -e '.[tfrecord]'`"
        )


class Record(NamedTuple):
    """One image of a TFRecord file, still encoded, and where it stands."""

    filename: str
    image: bytes
    image_format: str
    size: tuple[int, int]
    mask: bytes | None
    origin: str


def read_records(path: Path) -> Iterator[Record]:
    """Reads a TFRecord file, gzipped or not, one record at a time, and checks every checksum.

    Raises:
        ValueError: The file is damaged or cut off, or a record lacks a feature of the schema; names the record. Or the
            extra `tfrecord` is not installed.
    """
    _need_packages()
    from google.protobuf.message import DecodeError

    with path.open("rb") as start:
        zipped = start.read(2) == b"\x1f\x8b"
    number = 0
    try:
        with path.open("rb") as stored:
            file: IO[bytes] = cast(IO[bytes], gzip.GzipFile(fileobj=stored)) if zipped else stored
            while (header := file.read(_LENGTH.size)) != b"":
                number += 1
                yield _parse(_next_payload(file, header), f"{path.name}, record {number}")
    except (EOFError, gzip.BadGzipFile, DecodeError) as error:
        raise ValueError(f"{path}, record {number}: {error}; the file is damaged or cut off") from error


def _next_payload(file: IO[bytes], header: bytes) -> bytes:
    """The rest of a record whose length has been read."""
    if len(header) < _LENGTH.size or not _has_checksum(file, header):
        raise EOFError("its length is damaged")
    length = _LENGTH.unpack(header)[0]
    if length > _LONGEST_RECORD_BYTES:
        raise EOFError(f"it claims {length} bytes")
    payload = file.read(length)
    if len(payload) < length or not _has_checksum(file, payload):
        raise EOFError("its content does not fit its checksum")
    return payload


def _has_checksum(file: IO[bytes], data: bytes) -> bool:
    """Whether the checksum that follows is that of the data."""
    import crc32c

    value = crc32c.crc32c(data)
    masked = (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF
    return file.read(_CHECKSUM.size) == _CHECKSUM.pack(masked)


def _parse(payload: bytes, origin: str) -> Record:
    """Reads the features of the schema."""
    from tfrecord import example_pb2

    features = example_pb2.Example.FromString(payload).features.feature

    def text(name: str) -> bytes | None:
        values = features[name].bytes_list.value if name in features else ()
        return bytes(values[0]) if values else None

    def number(name: str) -> int:
        values = features[name].int64_list.value if name in features else ()
        return int(values[0]) if values else -1

    image, image_format, filename = text("image/encoded"), text("image/format"), text("image/filename")
    mask, mask_format = text("image/segmentation/class/encoded"), text("image/segmentation/class/format")
    if not image or not filename or (image_format or b"").decode().lower() not in FORMATS:
        raise ValueError(
            f"{origin}: expected image/encoded, image/filename and image/format (png or jpeg), found the features "
            f"{sorted(features)} and the format {image_format!r}"
        )
    if mask and (mask_format or b"png").lower() != b"png":
        raise ValueError(f"{origin}: the mask has the format {mask_format!r}, expected png")
    name = filename.decode("utf-8", "surrogateescape")
    size = (number("image/height"), number("image/width"))
    return Record(name, image, image_format.decode().lower() if image_format else "", size, mask or None, origin)


def split_of(path: Path) -> str:
    """The split of a TFRecord file: its name without ending and without `-00000-of-00004`."""
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    found = _SHARD.fullmatch(name)
    return found["split"] if found else name


def list_files(source: Path) -> list[Path]:
    """The TFRecord files of a folder, told by ending or shard number, in order; or the one file given.

    Raises:
        FileNotFoundError: There are none.
    """
    if source.is_file():
        return [source]
    found = find_paths(source, "*")
    files = [path for path in found if path.suffix in _ENDINGS or _SHARD.fullmatch(path.name)]
    if not files:
        raise FileNotFoundError(f"no TFRecord files (*.tfrecord or NAME-00000-of-00001) in {source}")
    return files


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
        out: Folder to write to: new, empty or of an earlier run on the same content; files that exist are kept.
        images_per_file: Most images of one file.
        dry_run: Write nothing.
        progress: Show a progress bar.

    Returns:
        Images of each file.

    Raises:
        FileNotFoundError: An image or mask is missing.
        ValueError: The folder holds something else, a file cannot be read or is neither PNG nor JPEG, or the extra
            `tfrecord` is not installed.
    """
    _need_packages()
    if images_per_file < 1:
        raise ValueError(f"images_per_file is {images_per_file}, expected 1 or more")
    shards: dict[Path, tuple[Sample, ...]] = {}
    for split, samples in description.splits.items():
        count = -(-len(samples) // images_per_file)
        for number in range(count):
            part = samples[number * images_per_file : (number + 1) * images_per_file]
            shards[out / f"{split}-{number:05d}-of-{count:05d}.tfrecord"] = part
    if not dry_run:
        settings = {
            "dataset": description.digest(),
            "content": _content_digest(description),
            "images_per_file": images_per_file,
        }
        claim_folder(out, tool="tfrecord write", settings=settings)
        save_labels(out / LABELS_NAME, _labels_of(description))
        for path, samples in tracked(shards.items(), "tfrecord", disable=not progress):
            if not path.exists():
                _write_shard(path, samples, description)
        record_made(out, [out / LABELS_NAME, *shards], keep_marks=True)
    return {path: len(samples) for path, samples in shards.items()}


def _content_digest(description: DatasetDescription) -> str:
    """A hash of the content of all images and masks."""
    digest = hashlib.sha256()
    for samples in description.splits.values():
        for path in (path for sample in samples for path in sample[:2] if path is not None):
            # A file that is missing is named when its record is written.
            digest.update(file_digest(path).encode() if path.is_file() else b"missing")
    return digest.hexdigest()[:16]


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
    from tfrecord.writer import TFRecordWriter

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
        features["image/segmentation/class/encoded"] = (encode_mask(train_ids.astype(np.uint8)), "byte")
        features["image/segmentation/class/format"] = (b"png", "byte")
    return features


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
            a mask holds a value outside the classes, two records of a split have one name, or the extra `tfrecord` is
            not installed.
    """
    _need_packages()
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
    for path in tracked(files, "tfrecord", disable=not progress):
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
    inner = inner.with_name(without_image_ending(inner.name))
    image = out / "images" / split / inner.with_name(inner.name + ending)
    mask = None if record.mask is None else out / "masks" / split / inner.with_name(f"{inner.name}.png")
    sample = Sample(image, mask, record.origin)
    for path, data in ((image, record.image), (mask, record.mask)):
        if path is not None and data is not None and not (path.is_file() and path.read_bytes() == data):
            write_bytes(path, data)
    pixels = read_image(image, record.origin)
    size = (pixels.shape[0], pixels.shape[1])
    if record.size not in (size, (-1, -1)):
        raise ValueError(f"{record.origin}: the image is {size}, image/height and image/width say {record.size}")
    read_label(sample, size, num_classes=num_classes, ignore_index=IGNORE_TRAIN_ID)
    return sample
