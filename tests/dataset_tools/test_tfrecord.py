import gzip
import io
import os
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.labels import LabelDefinition, save_labels
from dataset_tools.masks import read_mask, write_mask
from dataset_tools.samples import Sample
from dataset_tools.tfrecord import list_files, read_records, read_tfrecords, split_of, write_tfrecords
from fasterseg.base.images import read_image

MakeDataset = Callable[..., DatasetDescription]


def crc32c(data: bytes) -> int:
    """The checksum bit by bit, as its definition says: reflected polynomial 0x82F63B78."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    value = crc32c(data)
    return struct.pack("<I", (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def block(field: int, data: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return bytes([field << 3 | 2]) + varint(len(data)) + data


def record(features: dict[str, bytes | int]) -> bytes:
    """A framed tf.train.Example, byte by byte: Example.features(1) = map(1) of name(1) and Feature(2)."""
    entries = b""
    for name, value in features.items():
        feature = block(1, block(1, value)) if isinstance(value, bytes) else block(3, block(1, varint(value)))
        entries += block(1, block(1, name.encode()) + block(2, feature))
    payload = block(1, entries)
    length = struct.pack("<Q", len(payload))
    return length + masked(length) + payload + masked(payload)


def png(array: np.ndarray, mode: str | None = None) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(array)
    if mode == "P":
        image.putpalette(list(range(256)) * 3)
    image.save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
MASK = np.array([[0, 1, 2, 255, 0, 1]] * 4, np.uint8)


def features(name: str = "city/a b.png", **changes: bytes | int) -> dict[str, bytes | int]:
    made: dict[str, bytes | int] = {
        "image/encoded": png(IMAGE),
        "image/format": b"png",
        "image/filename": name.encode(),
        "image/height": 4,
        "image/width": 6,
        "image/segmentation/class/encoded": png(MASK, "P"),
        "image/segmentation/class/format": b"png",
    }
    return made | {f"image/{key}": value for key, value in changes.items()}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "records"
    folder.mkdir()
    labels = [LabelDefinition(name=name, id=number, train_id=number) for number, name in enumerate(("a", "b", "c"))]
    save_labels(folder / "labels.yaml", labels)
    return folder


def test_records_as_tensorflow_writes_them(source: Path, tmp_path: Path) -> None:
    (source / "train-00000-of-00002").write_bytes(record(features()) + record(features("it's.png")))
    (source / "train-00001-of-00002").write_bytes(gzip.compress(record(features("二.png"))))
    (source / "val.tfrecord").write_bytes(record(features("x\\y.jpg")))
    read_tfrecords(source, tmp_path / "out", progress=False)
    made = load_description(tmp_path / "out")
    assert {split: len(samples) for split, samples in made.splits.items()} == {"train": 3, "val": 1}
    assert made.class_names == ("a", "b", "c")
    names = [sample.image.relative_to(made.root).as_posix() for sample in made.samples("train+val")]
    assert names == ["images/train/city/a b.png", "images/train/it's.png", "images/train/二.png", "images/val/x/y.png"]
    for sample in made.samples("train+val"):
        assert sample.mask is not None
        assert np.array_equal(read_image(sample.image), IMAGE)
        assert np.array_equal(read_mask(sample.mask), MASK)


def test_round_trip(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = make_dataset(train=5, val=2)
    jpeg = description.root / "photo.jpg"
    cv2.imwrite(str(jpeg), np.full((48, 80, 3), 90, np.uint8))
    splits = {"train": description.samples("train"), "val": (*description.samples("val"), Sample(jpeg, None))}
    description = replace(description, splits=splits, ignore_index=255)
    files = write_tfrecords(description, tmp_path / "out", images_per_file=2, progress=False)
    assert {path.name: count for path, count in files.items()} == {
        "train-00000-of-00003.tfrecord": 2,
        "train-00001-of-00003.tfrecord": 2,
        "train-00002-of-00003.tfrecord": 1,
        "val-00000-of-00002.tfrecord": 2,
        "val-00001-of-00002.tfrecord": 1,
    }
    again = read_tfrecords(tmp_path / "out", tmp_path / "back", progress=False)
    assert (again.class_names, again.colors) == (description.class_names, description.colors)
    for split, samples in description.splits.items():
        for old, new in zip(samples, again.samples(split), strict=True):
            assert old.image.read_bytes() == new.image.read_bytes()
            assert (old.mask is None) == (new.mask is None)
            if old.mask is not None and new.mask is not None:
                assert np.array_equal(read_mask(old.mask), read_mask(new.mask))


def test_what_is_written_is_what_the_format_says(make_dataset: MakeDataset, tmp_path: Path) -> None:
    """Parsed with nothing but the framing: lengths and checksums by their definition."""
    description = make_dataset(train=2, val=0)
    (path,) = write_tfrecords(
        replace(description, splits={"t": description.samples("train")}), tmp_path / "o", progress=False
    )
    data, count = path.read_bytes(), 0
    while data:
        (length,) = struct.unpack_from("<Q", data)
        assert data[8:12] == masked(data[:8])
        payload = data[12 : 12 + length]
        assert data[12 + length : 16 + length] == masked(payload)
        for name in ("encoded", "format", "filename", "height", "width", "segmentation/class/encoded"):
            assert f"image/{name}".encode() in payload
        data, count = data[16 + length :], count + 1
    assert count == 2


def test_another_ignore_index_becomes_255(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description = replace(make_dataset(train=1), ignore_index=9)
    sample = description.samples("train")[0]
    assert sample.mask is not None
    write_mask(sample.mask, np.full((48, 80), 9, np.uint8))
    write_tfrecords(replace(description, splits={"train": (sample,)}), tmp_path / "out", progress=False)
    mask = read_tfrecords(tmp_path / "out", tmp_path / "back", progress=False).samples("train")[0].mask
    assert mask is not None
    assert (read_mask(mask) == 255).all()


def test_writing_goes_on(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description, out = make_dataset(train=4, val=1), tmp_path / "out"
    planned = write_tfrecords(description, out, images_per_file=2, dry_run=True)
    assert not out.exists()
    assert write_tfrecords(description, out, images_per_file=2, progress=False) == planned
    paths = list(planned)
    before = paths[0].stat().st_mtime_ns
    paths[1].unlink()
    write_tfrecords(description, out, images_per_file=2, progress=False)
    assert paths[0].stat().st_mtime_ns == before
    assert paths[1].is_file()
    with pytest.raises(ValueError, match="images_per_file is 2 there, 3 here"):
        write_tfrecords(description, out, images_per_file=3, progress=False)


def test_reading_goes_on(source: Path, tmp_path: Path) -> None:
    (source / "train.tfrecord").write_bytes(record(features()) + record(features("b.png"))[:-1])
    with pytest.raises(ValueError, match="record 2"):
        read_tfrecords(source, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dataset.yaml").exists()
    (source / "train.tfrecord").write_bytes(record(features()) + record(features("b.png")))
    assert len(read_tfrecords(source, tmp_path / "out", progress=False).samples("train")) == 2


@pytest.mark.parametrize("place", [0, 8, 40, -1])
def test_a_flipped_bit_is_found(source: Path, place: int) -> None:
    data = bytearray(record(features("a.png")) + record(features("b.png")))
    data[place] ^= 1
    (source / "t.tfrecord").write_bytes(data)
    with pytest.raises(ValueError, match=r"t\.tfrecord, record [12]: its (length|content)"):
        list(read_records(source / "t.tfrecord"))


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [5, 30, 200])
def test_cut_off(source: Path, zipped: bool, kept: int) -> None:
    data = record(features("a.png"))
    (source / "t.tfrecord").write_bytes((gzip.compress(data) if zipped else data)[:kept])
    with pytest.raises(ValueError, match=r"t\.tfrecord, record \d: .*damaged or cut off"):
        list(read_records(source / "t.tfrecord"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": b"webp"}, "found the features"),
        ({"encoded": b""}, "found the features"),
        ({"filename": b""}, "found the features"),
        ({"format": b"jpeg"}, "its image is no jpeg"),
        ({"filename": b"../.."}, "is no name"),
        ({"height": 5}, r"the image is \(4, 6\).*say \(5, 6\)"),
        ({"segmentation/class/format": b"raw"}, "expected png"),
        ({"segmentation/class/encoded": png(MASK[:2])}, "differ in size"),
        ({"segmentation/class/encoded": png(np.full((4, 6), 7, np.uint8))}, "outside the classes: 7"),
        ({"segmentation/class/encoded": b"abc"}, "mask cannot be read"),
    ],
)
def test_what_does_not_fit(source: Path, tmp_path: Path, changes: dict[str, bytes | int], message: str) -> None:
    (source / "train.tfrecord").write_bytes(record(features(**changes)))
    with pytest.raises(ValueError, match=message):
        read_tfrecords(source, tmp_path / "out", progress=False)


def test_names_stay_in_the_folder(source: Path, tmp_path: Path) -> None:
    (source / "train.tfrecord").write_bytes(
        record(features("../../evil.png")) + record(features("/abs/evil.png")) + record(features("..\\..\\e.png"))
    )
    made = read_tfrecords(source, tmp_path / "out", progress=False)
    assert all(sample.image.resolve().is_relative_to(tmp_path / "out") for sample in made.samples("train"))
    assert not (tmp_path / "evil.png").exists()


def test_two_records_of_one_name(source: Path, tmp_path: Path) -> None:
    (source / "train.tfrecord").write_bytes(record(features("a.png")) + record(features("a.jpg")))
    with pytest.raises(ValueError, match=r"record 2 and train\.tfrecord, record 1 have one name"):
        read_tfrecords(source, tmp_path / "out", progress=False)


def test_classes_and_files_are_needed(source: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no TFRecord files"):
        list_files(source)
    (source / "labels.yaml").rename(tmp_path / "other.yaml")
    (source / "train.tfrecord").write_bytes(record(features()))
    with pytest.raises(FileNotFoundError, match="give --labels"):
        read_tfrecords(source, tmp_path / "out")
    made = read_tfrecords(source / "train.tfrecord", tmp_path / "out", labels=tmp_path / "other.yaml", progress=False)
    assert made.num_classes == 3


def test_split_names() -> None:
    names = ("train-00000-of-00010", "train-00001-of-00010.tfrecord", "val.tfrecords", "my-set-00000-of-00001")
    assert [split_of(Path(name)) for name in names] == ["train", "train", "val", "my-set"]


def test_without_the_extra_nothing_is_begun(
    make_dataset: Callable[..., DatasetDescription], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = make_dataset()
    write_tfrecords(description, tmp_path / "records", progress=False)
    monkeypatch.setitem(sys.modules, "crc32c", None)
    for call in (
        lambda: write_tfrecords(description, tmp_path / "out", progress=False),
        lambda: read_tfrecords(tmp_path / "records", tmp_path / "out", progress=False),
        lambda: next(read_records(tmp_path / "records" / "train-00000-of-00001.tfrecord")),
    ):
        with pytest.raises(
            ValueError, match=r"need the packages crc32c, not installed .*pip install -e '\.\[tfrecord\]'"
        ):
            call()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("scene.0001", "scene.0002"), ["scene.0001.png", "scene.0002.png"]),
        (("a.v1.PNG", "a.v2.jpeg"), ["a.v1.png", "a.v2.png"]),
        (("city/b.1.2", "city/b.1"), ["city/b.1.2.png", "city/b.1.png"]),
    ],
)
def test_only_endings_of_images_are_taken_off(
    source: Path, tmp_path: Path, names: tuple[str, str], images: list[str]
) -> None:
    (source / "train.tfrecord").write_bytes(b"".join(record(features(name)) for name in names))
    samples = read_tfrecords(source, tmp_path / "out", progress=False).samples("train")
    assert [sample.image.relative_to(tmp_path / "out/images/train").as_posix() for sample in samples] == images


def test_a_dataset_of_other_content_needs_another_folder(make_dataset: MakeDataset, tmp_path: Path) -> None:
    description, out = make_dataset(train=2), tmp_path / "out"
    write_tfrecords(description, out, progress=False)
    sample = description.samples("train")[1]
    assert sample.mask is not None
    times = sample.mask.stat()
    write_mask(sample.mask, np.zeros((48, 80), np.uint8))
    os.utime(sample.mask, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ValueError, match=r"content is \w+ there, \w+ here"):
        write_tfrecords(description, out, progress=False)
