"""Checks of the whole dataset: pictures on both sides of a split, and which classes occur how often.

Copies, near-copies and files of one group must not stand on both sides. The class counts also give loss weights.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dataset_tools.description import DatasetDescription
from dataset_tools.doctor.findings import Findings
from dataset_tools.doctor.inspection import HASH_BITS, Observation
from dataset_tools.doctor.pair_checks import Splits
from dataset_tools.samples import Sample
from dataset_tools.split import group_of
from fasterseg.base.images import described

WEIGHT_FORMULA = "1 / ln(1.02 + share of the labelled pixels), as in ENet (Paszke et al., 2016)"
DEFAULT_DISTANCE = 8
_ROWS_PER_BLOCK = 64


class DuplicateCheck:
    """Finds files with the same pixels."""

    def __init__(self) -> None:
        self._first: dict[bytes, dict[str, Sample]] = {}

    def visit(self, split: str, sample: Sample, observation: Observation, findings: Findings) -> bool:
        """Compares an image with those before it.

        Returns:
            Whether the picture stands in an earlier split too, as a copy or as the same file.
        """
        if observation.image is None:
            return False
        owners = self._first.setdefault(observation.image.digest, {})
        others = [(name, other) for name, other in owners.items() if name != split]
        name = described(sample.image, sample.origin)
        before = owners.setdefault(split, sample)
        if before.image != sample.image:
            findings.add("duplicate", f"{name} is the same as {described(before.image, before.origin)}", before, sample)
        for other_split, other in others:
            if other.image != sample.image:
                copy = f"{described(other.image, other.origin)} of {other_split}"
                findings.add("duplicate-across-splits", f"{name} of {split} is the same as {copy}", other, sample)
        return bool(others)


class NearDuplicateCheck:
    """Finds nearly the same picture in two splits.

    Args:
        distance: How many of the 128 bits of the hashes may differ.
    """

    def __init__(self, distance: int) -> None:
        self._distance = distance
        self._hashes: defaultdict[str, list[bytes]] = defaultdict(list)
        self._samples: defaultdict[str, list[Sample]] = defaultdict(list)

    def visit(self, split: str, sample: Sample, observation: Observation) -> None:
        """Keeps the hash of an image."""
        if observation.image is not None and observation.image.near_hash is not None:
            self._hashes[split].append(observation.image.near_hash)
            self._samples[split].append(sample)

    def report(self, findings: Findings) -> None:
        """For each image, reports the nearest one of every earlier split if it is near enough."""
        for earlier, later in combinations(self._hashes, 2):
            nearest = nearest_hashes(self._hashes[later], self._hashes[earlier])
            for sample, (position, distance) in zip(self._samples[later], nearest, strict=True):
                if distance <= self._distance:
                    other = self._samples[earlier][position]
                    findings.add(
                        "near-duplicate-across-splits",
                        f"{described(sample.image, sample.origin)} of {later} is near "
                        f"{described(other.image, other.origin)} of {earlier} ({distance} of {HASH_BITS} bits differ)",
                        other,
                        sample,
                    )


def check_groups(splits: Splits, pattern: re.Pattern[str], findings: Findings) -> None:
    """Finds groups of files that stand in two splits.

    Args:
        splits: The lists.
        pattern: Names the group of a file; see `split.group_of`.
        findings: Gets one entry per group, and one per file name without a group.
    """
    groups: defaultdict[str, defaultdict[str, list[Sample]]] = defaultdict(lambda: defaultdict(list))
    for split, samples in splits.items():
        for sample in samples:
            group = group_of(sample.image, pattern)
            if group is None:
                name = described(sample.image, sample.origin)
                findings.add("group-unmatched", f"{name} does not match {pattern.pattern!r}", sample)
            else:
                groups[group][split].append(sample)
    for group, members in groups.items():
        if len(members) > 1:
            places = ", ".join(
                f"{len(samples)} in {split} (such as {samples[0].image.name})" for split, samples in members.items()
            )
            shown = (samples[0] for samples in members.values())
            findings.add("group-across-splits", f"group {group!r}: {places}", *shown)


def nearest_hashes(hashes: list[bytes], others: list[bytes]) -> Iterator[tuple[int, int]]:
    """Finds for each hash the nearest of the others.

    Compares in blocks, so that memory grows with the number of hashes and not with the number of pairs.

    Args:
        hashes: Hashes of 16 bytes.
        others: At least one.

    Yields:
        Position of the nearest other hash (the first of equals), and the number of bits that differ.
    """
    table = _as_words(others)
    queries = _as_words(hashes)
    for start in range(0, len(hashes), _ROWS_PER_BLOCK):
        block = queries[start : start + _ROWS_PER_BLOCK]
        distances = sum(
            np.bitwise_count(block[:, word, None] ^ table[None, :, word]).astype(np.uint8)
            for word in range(HASH_BITS // 64)
        )
        nearest = np.argmin(distances, axis=1)
        for row, position in enumerate(nearest):
            yield int(position), int(np.asarray(distances)[row, position])


def _as_words(hashes: list[bytes]) -> NDArray[np.uint64]:
    """Hashes as an array of 64-bit words, shape (N, 2)."""
    return np.frombuffer(b"".join(hashes), np.uint64).reshape(len(hashes), HASH_BITS // 64)


@dataclass(frozen=True)
class ClassShare:
    """How often a class occurs in the examined splits.

    Attributes:
        name: The class.
        color: Its colour.
        pixels: Number of pixels by split.
        images: Number of images that contain it, by split.
        share: Part of all labelled pixels, 0..1.
        weight: Suggested loss weight by `WEIGHT_FORMULA`.
    """

    name: str
    color: tuple[int, int, int]
    pixels: dict[str, int]
    images: dict[str, int]
    share: float
    weight: float


class ClassCounts:
    """Counts pixels and images of every class, split by split.

    Args:
        description: The dataset.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        self._pixels: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._images: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self.ignored_pixels = 0

    def visit(self, split: str, observation: Observation) -> None:
        """Counts one mask."""
        if observation.mask is None:
            return
        count = self._description.num_classes
        pixels = self._pixels.setdefault(split, np.zeros(count, np.int64))
        images = self._images.setdefault(split, np.zeros(count, np.int64))
        for value, number in observation.mask.pixels.items():
            if value < count:
                pixels[value] += number
                images[value] += 1
            elif value == self._description.ignore_index:
                self.ignored_pixels += number

    def shares(self) -> tuple[ClassShare, ...]:
        """The classes in order of their train ids."""
        totals = sum(self._pixels.values(), np.zeros(self._description.num_classes, np.int64))
        labelled = max(1, int(totals.sum()))
        return tuple(
            ClassShare(
                name=name,
                color=self._description.colors[train_id],
                pixels={split: int(pixels[train_id]) for split, pixels in self._pixels.items()},
                images={split: int(images[train_id]) for split, images in self._images.items()},
                share=int(totals[train_id]) / labelled,
                weight=1 / math.log(1.02 + int(totals[train_id]) / labelled),
            )
            for train_id, name in enumerate(self._description.class_names)
        )

    def report(self, findings: Findings) -> None:
        """Reports classes that are missing in all masks or in a split.

        Where one class alone occurs beside ignored pixels, the foreground may have the number of the ignore index.
        """
        if not self._pixels:
            return
        shares = self.shares()
        used = [share for share in shares if share.share > 0]
        unused = [share for share in shares if share.share == 0]
        if unused and len(used) == 1 and self.ignored_pixels:
            findings.add(
                "foreground-as-ignore",
                f"{used[0].name} is the only class that occurs, and {self.ignored_pixels} pixels are the ignore index "
                f"{self._description.ignore_index}: they may be {' or '.join(share.name for share in unused[:5])}",
            )
            return
        for share in unused:
            findings.add("unused-class", f"{share.name} (id {shares.index(share)}) occurs in no mask")
        for share in used:
            for split, pixels in share.pixels.items():
                if pixels == 0:
                    elsewhere = ", ".join(
                        f"{number} pixels in {name}" for name, number in share.pixels.items() if number
                    )
                    findings.add("class-not-in-split", f"{share.name} does not occur in {split} ({elsewhere})")
