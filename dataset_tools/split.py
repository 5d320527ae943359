"""Dividing a dataset into splits anew: by ratio and seed, stratified by class content, groups kept together.

The files stay where they are. New lists go to a folder of their own, `splits/<name>/`; `dataset.yaml` is replaced last
and in one step, and its former text stays beside the new lists, so that a cut never leaves half a division and the old
one can be had back. `lists` writes through here too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from dataset_tools.dataset import Sample
from dataset_tools.description import DESCRIPTION_NAME, DatasetDescription, save_description
from dataset_tools.files import claim_folder, record_made
from dataset_tools.grouping import compile_group_pattern, group_of
from dataset_tools.masks import check_mask_values, read_mask
from dataset_tools.stratify import assign_groups
from fasterseg.base.files import write_bytes
from fasterseg.base.images import described

SPLITS_FOLDER = "splits"
PREVIOUS_NAME = f"previous_{DESCRIPTION_NAME}"
_SHOWN = 10


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
        group_by: Regular expression on the file name that names the group (the drive, the patient) of an image; a group
            never straddles splits.
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
    kept = {name: split for name, split in description.splits.items() if name not in names}
    clash = sorted(kept.keys() & ratios.keys())
    if clash:
        raise ValueError(f"the splits {', '.join(clash)} exist and stay; name new ones otherwise, or divide them too")
    keys = [sample.image.as_posix() for sample in samples] if group_by is None else _groups(samples, group_by, kept)
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    member_of = np.array([numbers[key] for key in keys])
    pixels = _class_pixels(description, samples, progress=progress)
    content = np.zeros((len(numbers), description.num_classes))
    np.add.at(content, member_of, pixels)
    chosen = assign_groups(
        np.bincount(member_of), content if stratify else content[:, :0], list(ratios.values()), seed=seed
    )
    split_of = chosen[member_of]
    members = [np.flatnonzero(split_of == number) for number in range(len(ratios))]
    return SplitPlan(
        splits={name: tuple(samples[i] for i in rows.tolist()) for name, rows in zip(ratios, members, strict=True)},
        kept=kept,
        class_pixels=np.stack([pixels[rows].sum(axis=0) for rows in members]),
        groups=None if group_by is None else tuple(np.bincount(chosen, minlength=len(ratios)).tolist()),
    )


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
            f"{description.root} cannot be divided:\n  {_shown(problems)}\n"
            "correct the lists, or name the splits to divide (--from train+val), so that the others stay as they are"
        )
    return sorted(found.values(), key=lambda sample: sample.image.as_posix())


def _groups(samples: Sequence[Sample], pattern_text: str, kept: Mapping[str, Sequence[Sample]]) -> list[str]:
    """The group of every sample; none may be unnamed or in a split that stays."""
    pattern = compile_group_pattern(pattern_text)
    groups = [group_of(sample.image, pattern) for sample in samples]
    unnamed = [sample.image.name for sample, group in zip(samples, groups, strict=True) if group is None]
    if unnamed:
        raise ValueError(f"--group-by {pattern_text!r} does not match {len(unnamed)} file names:\n  {_shown(unnamed)}")
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
    for row, sample in enumerate(track(samples, description="read masks", disable=not progress)):
        assert sample.mask is not None, "_pool refuses samples without a mask"
        mask = read_mask(sample.mask)
        source = f"mask {described(sample.mask, sample.origin)}"
        check_mask_values(
            mask, num_classes=description.num_classes, ignore_index=description.ignore_index, source=source
        )
        counts[row] = np.bincount(mask.ravel(), minlength=256)[: description.num_classes]
    return counts


def _shown(lines: Sequence[str]) -> str:
    """The first lines, and how many more there are."""
    more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n  ".join([*lines[:_SHOWN], *more])


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
