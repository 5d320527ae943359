"""TFRecord files record by record: framing, checksums, and the features of the segmentation schema.

The messages are the package `tfrecord`'s; the framing is our own, because that package does not look at the checksums.
`tfrecord` makes datasets of the records and the other way round.
"""

import gzip
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import crc32c
from google.protobuf.message import DecodeError
from tfrecord import example_pb2

FORMATS = {"png": (".png", b"\x89PNG\r\n\x1a\n"), "jpeg": (".jpg", b"\xff\xd8\xff"), "jpg": (".jpg", b"\xff\xd8\xff")}
_ENDINGS = (".tfrecord", ".tfrecords")
_SHARD = re.compile(r"(?P<split>.+?)-\d+-of-\d+")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_LONGEST_RECORD_BYTES = 2**31 - 1


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
        ValueError: The file is damaged or cut off, or a record lacks a feature of the schema; names the record.
    """
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
    value = crc32c.crc32c(data)
    masked = (((value >> 15) | (value << 17)) + _MASK_DELTA) & 0xFFFFFFFF
    return file.read(_CHECKSUM.size) == _CHECKSUM.pack(masked)


def _parse(payload: bytes, origin: str) -> Record:
    """Reads the features of the schema."""
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
    found = sorted(source.iterdir()) if source.is_dir() else []
    files = [path for path in found if path.suffix in _ENDINGS or _SHARD.fullmatch(path.name)]
    if not files:
        raise FileNotFoundError(f"no TFRecord files (*.tfrecord or NAME-00000-of-00001) in {source}")
    return files
