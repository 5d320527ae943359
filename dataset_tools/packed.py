"""Reading packs: images and masks as views into a memory-mapped file, from which a crop touches only what it needs.

`loader` asks `find_packed` whether packs hold all of its samples as they are now.
"""

import mmap
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription
from dataset_tools.pack import PACK_SUFFIX, PACKS_FOLDER, PackedSample, marks_of, names_of, read_index


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
