"""Packs: one file per split that holds every image and mask as plain bytes, for training without decoding.

    bytes 0..63     magic, version, place and length of the index
    then            images (H, W, 3) RGB and masks (H, W) of any sizes, uint8, each from a multiple of 64 bytes on
    at the end      the index, JSON: the classes, and of each sample its names, sizes, places, and the sizes and times
                    that its files had

`write_pack` makes them. `loader` asks `find_packed` whether packs hold all of its samples as they are now, and then
reads images and masks as views into the memory-mapped file: a crop touches only the pages that it needs.
"""

import hashlib
import json
import mmap
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dataset_tools.description import DatasetDescription, relative_name
from dataset_tools.pull.archive import check_room
from dataset_tools.samples import Sample, read_pair
from fasterseg.base.console import tracked
from fasterseg.base.files import replacing
from fasterseg.base.images import described, open_image

PACKS_FOLDER = "packs"
PACK_SUFFIX = ".pack"
MAGIC = b"SEGPACK\0"
VERSION = 1
HEADER = struct.Struct("<8sIIQQ")
HEADER_BYTES = 64
_ALIGNMENT = 64


class PackedSample(NamedTuple):
    """One sample as the index of a pack holds it.

    Attributes:
        image: Name of the image, relative to the dataset folder where it lies in it.
        mask: Name of the mask, or None.
        marks: Size in bytes and modification time in nanoseconds of both files.
        size: (height, width).
        image_offset: Where the image begins in the pack.
        mask_offset: Where the mask begins.
    """

    image: str
    mask: str | None
    marks: tuple[tuple[int, int], ...]
    size: tuple[int, int]
    image_offset: int
    mask_offset: int | None


def pack_path(root: Path, split: str) -> Path:
    """Where the pack of a split lies."""
    return root / PACKS_FOLDER / f"{split}{PACK_SUFFIX}"


def is_pack(path: Path) -> bool:
    """Whether a file is a pack, of any version."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def names_of(sample: Sample, root: Path) -> tuple[str, str | None]:
    """The names of a sample's files as a pack holds them."""
    return relative_name(sample.image, root), None if sample.mask is None else relative_name(sample.mask, root)


def marks_of(sample: Sample) -> tuple[tuple[int, int], ...]:
    """Size and time of a sample's files as they are now; links are followed.

    Raises:
        FileNotFoundError: A file is missing.
    """
    marks = []
    for path in sample[:2]:
        if path is None:
            continue
        if not path.is_file():
            raise FileNotFoundError(f"file not found: {described(path, sample.origin)}")
        status = path.stat()
        marks.append((status.st_size, status.st_mtime_ns))
    return tuple(marks)


def read_index(path: Path) -> tuple[dict[str, object], list[PackedSample]]:
    """Reads the index of a pack.

    Returns:
        What it says of the whole pack (split, num_classes, ignore_index, digest), and its samples.

    Raises:
        ValueError: It is no pack, of another version, or cut off.
    """
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
        if len(start) < HEADER_BYTES or not start.startswith(MAGIC):
            raise ValueError(f"{path} is no pack")
        _, version, _, offset, length = HEADER.unpack_from(start)
        if version != VERSION:
            raise ValueError(f"{path} has the version {version}, this reader knows {VERSION}")
        file.seek(offset)
        text = file.read(length)
    if len(text) != length or path.stat().st_size != offset + length:
        raise ValueError(f"{path} is cut off or damaged")
    content = json.loads(text)
    rows = content.pop("samples")
    if content["digest"] != _digest(rows):
        raise ValueError(f"{path} has a damaged index")
    samples = [
        PackedSample(image, mask, tuple((size, time) for size, time in marks), (height, width), *offsets)
        for image, mask, marks, (height, width), *offsets in rows
    ]
    return content, samples


def _digest(rows: Sequence[object]) -> str:
    """Hash of the samples of an index: the names, sizes and times of their files, and where they lie."""
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


class PackPlan(NamedTuple):
    """What packing a split would write.

    Attributes:
        split: Name of the split.
        path: Where the pack goes.
        samples: The entries of the index.
        size_bytes: Size of all but the index.
        is_current: Whether a pack with just these samples is there.
    """

    split: str
    path: Path
    samples: tuple[PackedSample, ...]
    size_bytes: int
    is_current: bool


def plan_pack(description: DatasetDescription, split: str) -> PackPlan:
    """Lays out the pack of a split; reads only the beginnings of the images.

    Args:
        description: The dataset.
        split: Name of the split.

    Returns:
        The plan.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: The split is unknown or empty, or an image cannot be read.
    """
    offset, packed = HEADER_BYTES, []
    for sample in description.samples(split):
        marks = marks_of(sample)
        height, width = _image_size(sample)
        image, mask = names_of(sample, description.root)
        image_offset, offset = offset, _aligned(offset + 3 * height * width)
        mask_offset = None
        if mask is not None:
            mask_offset, offset = offset, _aligned(offset + height * width)
        packed.append(PackedSample(image, mask, marks, (height, width), image_offset, mask_offset))
    path = pack_path(description.root, split)
    return PackPlan(split, path, tuple(packed), offset, _is_current(path, description, packed))


def _aligned(offset: int) -> int:
    """The next place where an array may begin."""
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _image_size(sample: Sample) -> tuple[int, int]:
    """(height, width) of an image from its header, as stored."""
    with open_image(sample.image) as image:
        return image.height, image.width


def _is_current(path: Path, description: DatasetDescription, samples: Sequence[PackedSample]) -> bool:
    """Whether a pack with just these samples is there."""
    if not is_pack(path):
        return False
    try:
        content, found = read_index(path)
    except ValueError:
        return False
    classes = (content["num_classes"], content["ignore_index"])
    return classes == (description.num_classes, description.ignore_index) and found == list(samples)


def write_pack(description: DatasetDescription, plan: PackPlan, *, progress: bool = True) -> None:
    """Reads, checks and writes every image and mask of a split.

    A run that is cut off leaves the former pack, or none.

    Args:
        description: The dataset.
        plan: Of `plan_pack`.
        progress: Show a progress bar.

    Raises:
        ValueError: An image or mask is damaged or does not fit the classes, or the disk is too small.
    """
    check_room(plan.path.parent, plan.size_bytes)
    pairs = list(zip(description.samples(plan.split), plan.samples, strict=True))
    with replacing(plan.path) as temporary, temporary.open("wb") as file:
        for sample, packed in tracked(pairs, f"pack {plan.split}", disable=not progress):
            image, label = read_pair(sample, num_classes=description.num_classes, ignore_index=description.ignore_index)
            if image.shape[:2] != packed.size or marks_of(sample) != packed.marks:
                raise ValueError(f"{described(sample.image, sample.origin)} changed while it was packed; run it again")
            _put(file, packed.image_offset, image)
            if packed.mask_offset is not None:
                _put(file, packed.mask_offset, label.astype(np.uint8))
        index = {
            "split": plan.split,
            "num_classes": description.num_classes,
            "ignore_index": description.ignore_index,
            "digest": _digest(plan.samples),
            "samples": plan.samples,
        }
        text = json.dumps(index).encode()
        file.seek(plan.size_bytes)
        file.write(text)
        file.seek(0)
        file.write(HEADER.pack(MAGIC, VERSION, 0, plan.size_bytes, len(text)))


def _put(file: IO[bytes], offset: int, array: NDArray[np.uint8]) -> None:
    """Writes an array at its place."""
    file.seek(offset)
    file.write(np.ascontiguousarray(array).data)


class PackedReader:
    """Images and masks of some samples from packs.

    Args:
        places: The pack and the entry of each sample.
        ignore_index: Mask value of samples without a mask.
    """

    def __init__(self, places: Sequence[tuple[Path, PackedSample]], *, ignore_index: int) -> None:
        self._places = tuple(places)
        self._ignore_index = ignore_index
        self._mapped: dict[Path, mmap.mmap] = {}

    def __getstate__(self) -> dict[str, object]:
        """All but the mapped files, which every process maps for itself."""
        return {**self.__dict__, "_mapped": {}}

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One sample's pair, read-only.

        Args:
            position: Number of the sample.

        Returns:
            RGB (H, W, 3), and train ids (H, W).
        """
        path, entry = self._places[position]
        if path not in self._mapped:
            with path.open("rb") as file:
                self._mapped[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        data, (height, width) = self._mapped[path], entry.size
        image = np.frombuffer(data, np.uint8, 3 * height * width, entry.image_offset).reshape(height, width, 3)
        if entry.mask_offset is None:
            return image, np.full(entry.size, self._ignore_index, np.uint8)
        return image, np.frombuffer(data, np.uint8, height * width, entry.mask_offset).reshape(height, width)


def find_packed(description: DatasetDescription, samples: Sequence[Sample]) -> PackedReader | None:
    """Looks for packs that hold all of some samples as they are now.

    Packs that hold some of them, but not all or not as they are now, are not used, and a warning says so.

    Args:
        description: The dataset.
        samples: What is to be read.

    Returns:
        Their reader, or None where there are no packs of them or outdated ones.
    """
    problems: list[str] = []
    entries = _entries(description, problems)
    if not entries and not problems:
        return None
    places, found = [], 0
    for sample in samples:
        image, mask = names_of(sample, description.root)
        held = entries.get(image)
        if held is None:
            continue
        found += 1
        marks = marks_of(sample)
        places.extend([place for place in held if (place[1].mask, place[1].marks) == (mask, marks)][:1])
    if len(places) == len(samples):
        return PackedReader(places, ignore_index=description.ignore_index)
    if found:
        problems.append(f"{len(samples) - found} of {len(samples)} images are not in them")
        problems.append(f"{found - len(places)} have changed since")
    if problems:
        warnings.warn(
            f"the packs in {description.root / PACKS_FOLDER} are not used ({'; '.join(problems)}), the images are "
            f"decoded instead, which is slower; renew them: python -m dataset_tools pack {description.root}",
            stacklevel=2,
        )
    return None


def _entries(description: DatasetDescription, problems: list[str]) -> dict[str, list[tuple[Path, PackedSample]]]:
    """The packs and entries of each packed image; packs that cannot be used are added to the problems."""
    entries: dict[str, list[tuple[Path, PackedSample]]] = {}
    for path in sorted((description.root / PACKS_FOLDER).glob(f"*{PACK_SUFFIX}")):
        try:
            content, samples = read_index(path)
        except ValueError as error:
            problems.append(str(error))
            continue
        if (content["num_classes"], content["ignore_index"]) != (description.num_classes, description.ignore_index):
            problems.append(f"{path.name} was made for other classes")
            continue
        for sample in samples:
            entries.setdefault(sample.image, []).append((path, sample))
    return entries
