"""Pictures that stand on both sides of a split: copies, near-copies, and files of one group."""

import re
from collections import defaultdict
from itertools import combinations

from dataset_tools.dataset import Sample
from dataset_tools.doctor.findings import Findings
from dataset_tools.doctor.inspection import Observation
from dataset_tools.doctor.list_checks import Splits
from dataset_tools.doctor.perceptual import HASH_BITS, nearest_hashes
from dataset_tools.grouping import group_of
from fasterseg.base.images import described


class DuplicateCheck:
    """The same pixels in two files."""

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
    """Nearly the same picture in two splits.

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
        """Names, for each image, the nearest one of every earlier split when it is near enough."""
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
    """No group of files stands in two splits.

    Args:
        splits: The lists.
        pattern: Names the group of a file; see `grouping.group_of`.
        findings: Gets one entry per group.
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
