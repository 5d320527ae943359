"""Dividing a dataset into splits anew: by ratio and seed, stratified by class content, groups kept together.

A group is a set of files that belong together, such as the frames of one drive; a pattern on the file name names it.
`assign_groups` decides which group goes where, `plan_split` applies it to a dataset, `write_splits` writes the lists.

Images and masks stay where they are. New lists go to a folder of their own, `splits/<name>/`. `dataset.yaml` is
replaced last and in one step, so that a run that is cut off leaves the old division whole. The former `dataset.yaml`
stays beside the new lists. `lists` writes through here too.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dataset_tools.description import DESCRIPTION_NAME, DatasetDescription, save_description
from dataset_tools.files import claim_folder, record_made
from dataset_tools.masks import check_mask_values, read_mask
from dataset_tools.samples import Sample
from fasterseg.base.console import tracked
from fasterseg.base.errors import list_problems
from fasterseg.base.files import write_bytes
from fasterseg.base.images import described

SPLITS_FOLDER = "splits"
PREVIOUS_NAME = f"previous_{DESCRIPTION_NAME}"
_SHOWN = 10
_SWAPS_PER_GROUP = 20
_MOST_SWAPS = 200_000


def compile_group_pattern(text: str) -> re.Pattern[str]:
    """Reads a group pattern.

    Args:
        text: A regular expression that is searched in the file name.

    Returns:
        The pattern.

    Raises:
        ValueError: It is not a regular expression.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"group pattern {text!r} is not a regular expression: {error}; for example '^[^_]+' takes what stands "
            "before the first underscore"
        ) from error


def group_of(path: Path, pattern: re.Pattern[str]) -> str | None:
    """The group of a file.

    Args:
        path: The file; only its name is searched.
        pattern: Its bracketed parts, joined by "/", name the group; without brackets, all that matches does.

    Returns:
        The group, or None where the name does not match.
    """
    found = pattern.search(path.name)
    if found is None:
        return None
    return "/".join(part or "" for part in found.groups()) if pattern.groups else found.group()


def apportion(count: int, ratios: Sequence[float]) -> tuple[int, ...]:
    """Divides a number by ratios with the largest-remainder method, so that nothing is lost to rounding.

    Args:
        count: What to divide.
        ratios: Parts, above 0; only their proportions count.

    Returns:
        One number per ratio, together `count`. Each is less than 1 away from its exact part. A part that would be 0
        gets 1, taken from the largest.

    Raises:
        ValueError: There are fewer things than parts.
    """
    if count < len(ratios):
        raise ValueError(f"{count} cannot be divided into {len(ratios)} parts of at least 1")
    exact = np.asarray(ratios, np.float64) * count / sum(ratios)
    parts = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(-(exact - parts), kind="stable")
    parts[by_remainder[: count - int(parts.sum())]] += 1
    while parts.min() == 0:
        parts[parts.argmax()] -= 1
        parts[parts.argmin()] += 1
    return tuple(parts.tolist())


def assign_groups(
    sizes: NDArray[np.int64], content: NDArray[np.float64], ratios: Sequence[float], *, seed: int
) -> NDArray[np.int64]:
    """Chooses a split for every group.

    Groups are placed one by one, those with the largest share of some class first, each into the split where the
    shares of all classes come nearest to the ratios. Then random pairs of groups are swapped where that comes nearer
    still. Groups of one image each are divided exactly as `apportion` says.

    Args:
        sizes: Images of each group, (G,).
        content: How much of each class a group holds, (G, C); C may be 0.
        ratios: Part of each split; they add up to 1.
        seed: Decides the order of equal groups, and which pairs are tried.

    Returns:
        Number of the split of each group, (G,). Every split gets at least one group.

    Raises:
        ValueError: There are fewer groups than splits.
    """
    if len(sizes) < len(ratios):
        raise ValueError(
            f"{len(sizes)} groups cannot be divided into {len(ratios)} splits without tearing one apart; give fewer "
            "splits, or a group pattern that tells more groups apart"
        )
    generator = np.random.default_rng(seed)
    features = np.concatenate([sizes[:, None].astype(np.float64), content], axis=1)
    totals = features.sum(axis=0)
    shares = features[:, totals > 0] / totals[totals > 0]
    order = generator.permutation(len(sizes))
    order = order[np.argsort(-shares[order].max(axis=1), kind="stable")]
    balance = _Balance(shares, np.asarray(ratios, np.float64))
    room = np.asarray(apportion(int(sizes.sum()), ratios))
    for group in order.tolist():
        fitting = np.flatnonzero(room >= sizes[group])
        candidates = fitting if len(fitting) else np.arange(len(ratios))
        split = int(candidates[np.argmin(balance.cost_of_adding(group)[candidates])])
        balance.place(group, split)
        room[split] -= sizes[group]
    _fill_empty(balance, sizes, len(ratios))
    if shares.shape[1] > 1 or sizes.min() < sizes.max():
        _swap(balance, generator)
    return balance.splits


class _Balance:
    """Which split each group is in, and how far every class is from its ratio there.

    The distance is sum over splits and classes of (share - ratio)^2 / ratio, so that small splits count as much.
    """

    def __init__(self, shares: NDArray[np.float64], ratios: NDArray[np.float64]) -> None:
        self.shares = shares
        self.splits = np.full(len(shares), -1, np.int64)
        self._ratios = ratios[:, None]
        self._excess = np.repeat(-self._ratios, shares.shape[1], axis=1)

    def cost_of_adding(self, group: int) -> NDArray[np.float64]:
        """How much the distance grows with the group in each split."""
        share = self.shares[group]
        return np.asarray(((2 * self._excess + share) * share / self._ratios).sum(axis=1))

    def place(self, group: int, split: int) -> None:
        """Puts a group into a split, and takes it out of the one it was in."""
        if self.splits[group] >= 0:
            self._excess[self.splits[group]] -= self.shares[group]
        self._excess[split] += self.shares[group]
        self.splits[group] = split

    def gain_of_swapping(self, first: int, second: int) -> float:
        """How much the distance shrinks when two groups change places."""
        one, other = self.splits[first], self.splits[second]
        change = self.shares[second] - self.shares[first]
        growth = (2 * self._excess[one] + change) * change / self._ratios[one]
        growth += (change - 2 * self._excess[other]) * change / self._ratios[other]
        return -float(growth.sum())


def _fill_empty(balance: _Balance, sizes: NDArray[np.int64], splits: int) -> None:
    """Moves the smallest group of the split with most groups into each split that has none."""
    for split in range(splits):
        counts = np.bincount(balance.splits, minlength=splits)
        if counts[split] == 0:
            members = np.flatnonzero(balance.splits == counts.argmax())
            balance.place(int(members[sizes[members].argmin()]), split)


def _swap(balance: _Balance, generator: np.random.Generator) -> None:
    """Lets random pairs of groups change places where it helps."""
    count = len(balance.splits)
    pairs = generator.integers(count, size=(min(_SWAPS_PER_GROUP * count, _MOST_SWAPS), 2))
    for first, second in pairs.tolist():
        one, other = int(balance.splits[first]), int(balance.splits[second])
        if one != other and balance.gain_of_swapping(first, second) > 1e-12:
            balance.place(first, other)
            balance.place(second, one)


@dataclass(frozen=True)
class SplitPlan:
    """A division of a dataset that is not written yet.

    Attributes:
        splits: Samples of the new splits, in the order of their paths.
        kept: Splits that stay as they are.
        class_pixels: Pixels of each class in each new split, (splits, classes).
        groups: Number of groups in each new split; None when images were divided one by one.
    """

    splits: Mapping[str, tuple[Sample, ...]]
    kept: Mapping[str, tuple[Sample, ...]]
    class_pixels: NDArray[np.int64]
    groups: tuple[int, ...] | None


def parse_ratios(text: str) -> dict[str, float]:
    """Reads "train=0.7,val=0.15,test=0.15".

    Raises:
        ValueError: Names what is malformed; the parts have to add up to 1.
    """
    ratios: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        number = float(value) if value.replace(".", "", 1).isdigit() else 0.0
        if not name.replace("_", "").replace("-", "").isalnum() or name in ratios or not 0 < number <= 1:
            raise ValueError(
                f"--ratios {text!r}: {part.strip()!r} is not NAME=PART with a new name of letters, digits, _ and -, "
                "and a part above 0 and at most 1; for example train=0.7,val=0.15,test=0.15"
            )
        ratios[name] = number
    total = sum(ratios.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"--ratios {text!r}: the parts add up to {total:g}, expected 1")
    return ratios


def plan_split(
    description: DatasetDescription,
    ratios: Mapping[str, float],
    *,
    seed: int = 0,
    stratify: bool = False,
    group_by: str | None = None,
    source_splits: str | None = None,
    progress: bool = True,
) -> SplitPlan:
    """Divides the images of a dataset anew.

    The result depends on the images, the ratios and the seed, not on how they are divided now.

    Args:
        description: The dataset.
        ratios: Part of each new split; together 1.
        seed: Decides which image goes where.
        stratify: Divide the pixels of every class by the ratios too.
        group_by: Pattern on the file name that names the group (the drive, the patient); no group straddles splits.
        source_splits: Splits to divide, joined by "+"; the others stay. All when None.
        progress: Show a progress bar while masks are read.

    Returns:
        The plan.

    Raises:
        FileNotFoundError: A mask is missing.
        ValueError: There are too few images or groups, an image stands with two masks or without any, a mask is wrong,
            a file name has no group, or a group is in a split that stays as well.
    """
    names = source_splits.split("+") if source_splits else list(description.splits)
    samples = _pool(description, names)
    kept = _kept(description, names, ratios)
    keys = [sample.image.as_posix() for sample in samples] if group_by is None else _groups(samples, group_by, kept)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    member_of = np.array([numbers[key] for key in keys])
    pixels = _class_pixels(description, samples, progress=progress)
    content = np.zeros((len(numbers), description.num_classes))
    np.add.at(content, member_of, pixels)
    chosen = assign_groups(
        np.bincount(member_of), content if stratify else content[:, :0], list(ratios.values()), seed=seed
    )
    members = [np.flatnonzero(chosen[member_of] == number) for number in range(len(ratios))]
    return SplitPlan(
        splits={name: tuple(samples[i] for i in rows.tolist()) for name, rows in zip(ratios, members, strict=True)},
        kept=kept,
        class_pixels=np.stack([pixels[rows].sum(axis=0) for rows in members]),
        groups=None if group_by is None else tuple(np.bincount(chosen, minlength=len(ratios)).tolist()),
    )


def _kept(
    description: DatasetDescription, names: Sequence[str], ratios: Mapping[str, float]
) -> dict[str, tuple[Sample, ...]]:
    """The splits that are not divided; none may have the name of a new one."""
    kept = {name: split for name, split in description.splits.items() if name not in names}
    clash = sorted(kept.keys() & ratios.keys())
    if clash:
        raise ValueError(f"the splits {', '.join(clash)} exist and stay; name new ones otherwise, or divide them too")
    return kept


def _pool(description: DatasetDescription, names: Sequence[str]) -> list[Sample]:
    """All samples of the splits once, in the order of their paths."""
    found: dict[Path, Sample] = {}
    problems = []
    for name in names:
        for sample in description.samples(name):
            before = found.setdefault(sample.image, sample)
            if before.mask != sample.mask:
                problems.append(f"{sample.image} stands with two masks ({before.origin} and {sample.origin})")
            if sample.mask is None:
                problems.append(f"no mask for {described(sample.image, sample.origin)}")
    if problems:
        raise ValueError(
            f"{description.root} cannot be divided:{list_problems(problems, shown=_SHOWN)}\n"
            "correct the lists, or name the splits to divide (--from train+val), so that the others stay as they are"
        )
    return sorted(found.values(), key=lambda sample: sample.image.as_posix())


def _groups(samples: Sequence[Sample], pattern_text: str, kept: Mapping[str, Sequence[Sample]]) -> list[str]:
    """The group of every sample; none may be unnamed or in a split that stays."""
    pattern = compile_group_pattern(pattern_text)
    groups = [group_of(sample.image, pattern) for sample in samples]
    unnamed = [sample.image.name for sample, group in zip(samples, groups, strict=True) if group is None]
    if unnamed:
        shown = list_problems(unnamed, shown=_SHOWN)
        raise ValueError(f"--group-by {pattern_text!r} does not match {len(unnamed)} file names:{shown}")
    named = [group for group in groups if group is not None]
    for name, split in kept.items():
        shared = sorted({group_of(sample.image, pattern) for sample in split} & set(named) - {None}, key=str)
        if shared:
            raise ValueError(
                f"the groups {', '.join(str(group) for group in shared[:_SHOWN])} are also in the split {name}, which "
                "stays; divide it too, so that no group straddles splits"
            )
    return named


def _class_pixels(description: DatasetDescription, samples: Sequence[Sample], *, progress: bool) -> NDArray[np.int64]:
    """Pixels of each class in each mask, (samples, classes)."""
    counts = np.zeros((len(samples), description.num_classes), np.int64)
    for row, sample in enumerate(tracked(samples, "read masks", disable=not progress)):
        assert sample.mask is not None, "_pool refuses samples without a mask"
        mask = read_mask(sample.mask)
        source = f"mask {described(sample.mask, sample.origin)}"
        check_mask_values(
            mask, num_classes=description.num_classes, ignore_index=description.ignore_index, source=source
        )
        counts[row] = np.bincount(mask.ravel(), minlength=256)[: description.num_classes]
    return counts


def write_splits(
    description: DatasetDescription, splits: Mapping[str, tuple[Sample, ...]], *, tool: str, label: str
) -> Path:
    """Writes new lists and makes `dataset.yaml` name them.

    Args:
        description: The dataset; everything but its splits stays.
        splits: The samples of all splits.
        tool: The command, for the folder's mark.
        label: Start of the folder's name.

    Returns:
        The folder of the lists. It also holds `previous_dataset.yaml`, where there was a dataset.yaml before.
    """
    divided = replace(description, splits=splits)
    digest = hashlib.sha256(f"{tool} {divided.digest()}".encode()).hexdigest()[:8]
    folder = description.root / SPLITS_FOLDER / f"{label}-{digest}"
    known = claim_folder(folder, tool=tool, settings={"splits": list(splits), "digest": divided.digest()})
    current = description.root / DESCRIPTION_NAME
    previous = folder / PREVIOUS_NAME
    if current.is_file() and not (known and previous.is_file()):
        write_bytes(previous, current.read_bytes())
        record_made(folder, [previous])
    save_description(divided, lists_folder=folder.relative_to(description.root))
    return folder
