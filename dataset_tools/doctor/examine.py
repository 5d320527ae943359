"""Runs the checks over a dataset, all of them or the fast part.

`examine` checks the lists, then reads every pair once, in worker processes and bounded memory. `verify_split` is the
fast part, which the training stages run before they start, so that a missing file is named after seconds and not after
hours of training: it looks for every file of the lists and reads an evenly spaced sample of the pairs. It caches
nothing, because files may change between two runs.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2

from dataset_tools.config import Crop
from dataset_tools.description import DESCRIPTION_NAME, DatasetDescription, load_description
from dataset_tools.doctor import pair_checks
from dataset_tools.doctor.dataset_checks import (
    DEFAULT_DISTANCE,
    ClassCounts,
    DuplicateCheck,
    NearDuplicateCheck,
    check_groups,
)
from dataset_tools.doctor.findings import Findings, Severity
from dataset_tools.doctor.inspection import Observation, inspect_pair, inspect_pairs, missing_files
from dataset_tools.doctor.pair_checks import ChannelCheck, CropCheck, Splits, pair_problems
from dataset_tools.doctor.report import Report
from dataset_tools.masks import Rgb
from dataset_tools.samples import Sample
from fasterseg.base.console import tracked
from fasterseg.base.stopping import leave_stopping_to_parent
from fasterseg.base.text import printable

DEFAULT_SAMPLE_LIMIT = 32
_PAIRS_PER_JOB = 16
# Starting a process costs seconds: below this many pairs one is faster.
_MIN_PAIRS_FOR_POOL = 512
_JOBS_AHEAD = 4


@dataclass(frozen=True)
class CheckOptions:
    """How a dataset is examined.

    Attributes:
        crops: Crops that the images have to hold.
        group_pattern: Names the group of a file, such as its drive; None compares no groups.
        near_distance: How many of the 128 bits of two pictures' hashes may differ for near-duplicates.
        workers: Processes that read; does not change the report.
        progress: Show a bar with the time left.
    """

    crops: tuple[Crop, ...] = ()
    group_pattern: re.Pattern[str] | None = None
    near_distance: int = DEFAULT_DISTANCE
    workers: int = 1
    progress: bool = False


class Place(NamedTuple):
    """A sample and the split it stands in."""

    split: str
    sample: Sample


def select_splits(description: DatasetDescription, split: str | None) -> dict[str, tuple[Sample, ...]]:
    """The splits to examine.

    Args:
        description: The dataset.
        split: One split, or several joined by "+"; None for all that are not empty.

    Raises:
        ValueError: There is no such split, or it is empty.
    """
    names = dict.fromkeys(split.split("+")) if split else [name for name, found in description.splits.items() if found]
    return {name: description.samples(name) for name in names}


def examine(description: DatasetDescription, splits: Splits, options: CheckOptions | None = None) -> Report:
    """Reads every pair and applies every check.

    Args:
        description: The dataset.
        splits: What to examine; see `select_splits`.
        options: How; the defaults when not given.

    Returns:
        The findings.
    """
    options = options or CheckOptions()
    findings = Findings()
    check_lists(splits, findings)
    pair_checks.check_shared_files(splits, findings)
    pair_checks.check_unlisted(description, findings)
    if options.group_pattern is not None:
        check_groups(splits, options.group_pattern, findings)
    crop_check, channels = CropCheck(options.crops), ChannelCheck()
    classes, duplicates = ClassCounts(description), DuplicateCheck()
    near = NearDuplicateCheck(options.near_distance)
    places = [Place(split, sample) for split, samples in splits.items() for sample in samples]
    for (split, sample), observation in zip(places, _observations(description, places, options), strict=True):
        for problem in pair_problems(description, sample, observation):
            findings.add(problem.code, problem.detail, sample)
        crop_check.visit(sample, observation, findings)
        channels.visit(sample, observation)
        classes.visit(split, observation)
        if not duplicates.visit(split, sample, observation, findings):
            near.visit(split, sample, observation)
    channels.report(findings)
    classes.report(findings)
    near.report(findings)
    counts = {split: len(samples) for split, samples in splits.items()}
    return Report(description.root, description.name, counts, len(places), tuple(findings), classes=classes.shares())


def check_lists(splits: Splits, findings: Findings) -> None:
    """The checks of the lists that the training stages run too."""
    pair_checks.check_repeats(splits, findings)
    pair_checks.check_shared_masks(splits, findings)
    pair_checks.check_missing_masks(splits, findings)


def load_or_report(root: Path) -> DatasetDescription | Report:
    """Reads a dataset's description, or reports what is wrong with it.

    Args:
        root: The dataset folder.

    Returns:
        The description, or a report of its problems.

    Raises:
        FileNotFoundError: There is no dataset.yaml.
    """
    try:
        return load_description(root)
    except (ValueError, FileNotFoundError) as error:
        if not (root / DESCRIPTION_NAME).is_file():
            raise
        findings = Findings()
        for problem in _separate(str(error), root):
            numbered = problem.startswith("ignore_index:")
            findings.add("foreground-as-ignore" if numbered else "description", problem)
        return Report(root, "", {}, 0, tuple(findings))


def _separate(message: str, root: Path) -> list[str]:
    """The problems of a message: the lines below "file:", or parts that each begin with a file of the folder."""
    first, *lines = message.splitlines()
    if first.endswith(":"):
        return [line.strip() for line in lines]
    problems = [first]
    for line in lines:
        if line.startswith(str(root)):
            problems.append(line)
        else:
            problems[-1] += f" {line.strip()}"
    return problems


def _observations(
    description: DatasetDescription, places: Sequence[Place], options: CheckOptions
) -> Iterator[Observation]:
    """Reads the pairs, in order."""
    samples = [place.sample for place in places]
    parts = [tuple(samples[start : start + _PAIRS_PER_JOB]) for start in range(0, len(samples), _PAIRS_PER_JOB)]
    observations = chain.from_iterable(_run(parts, description.colors, options.workers))
    return tracked(observations, "check", total=len(places), disable=not options.progress)


def _prepare_worker() -> None:
    """Gives each worker one thread, and leaves signals to the parent process."""
    cv2.setNumThreads(1)
    leave_stopping_to_parent()


def _run(parts: Sequence[tuple[Sample, ...]], colors: tuple[Rgb, ...], workers: int) -> Iterator[list[Observation]]:
    """Inspects the parts in this process, or in others a few parts ahead of what is asked for."""
    if workers == 1 or len(parts) * _PAIRS_PER_JOB < _MIN_PAIRS_FOR_POOL:
        for part in parts:
            yield inspect_pairs(part, colors)
        return
    # Spawned, not forked: a forked copy of a process that runs PyTorch or OpenCV threads may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_prepare_worker) as pool:
        waiting: deque[Future[list[Observation]]] = deque()
        for part in parts:
            waiting.append(pool.submit(inspect_pairs, part, colors))
            if len(waiting) > workers * _JOBS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def examine_fast(
    description: DatasetDescription, splits: Splits, *, sample_limit: int | None = DEFAULT_SAMPLE_LIMIT
) -> Report:
    """Checks the lists, that every file exists, and a sample of the pairs.

    Args:
        description: The dataset.
        splits: What to examine.
        sample_limit: How many pairs of all splits together are read; None reads all.

    Returns:
        The findings.
    """
    findings = Findings()
    check_lists(splits, findings)
    present: list[Sample] = []
    for sample in (sample for samples in splits.values() for sample in samples):
        missing = missing_files(sample)
        for problem in missing:
            findings.add(problem.code, problem.detail, sample)
        if not missing:
            present.append(sample)
    chosen = _spread(present, sample_limit)
    for sample in chosen:
        for problem in pair_problems(description, sample, inspect_pair(sample, description.colors)):
            findings.add(problem.code, problem.detail, sample)
    counts = {split: len(samples) for split, samples in splits.items()}
    return Report(description.root, description.name, counts, len(chosen), tuple(findings))


def verify_split(
    description: DatasetDescription, split: str, *, sample_limit: int | None = DEFAULT_SAMPLE_LIMIT
) -> None:
    """Refuses a split with errors; what every stage calls first.

    Args:
        description: The dataset.
        split: Its name, or several joined by "+".
        sample_limit: How many pairs are read to check decoding, sizes and mask values; None reads all.

    Raises:
        ValueError: The split is unknown or empty, or at least one pair is wrong; the message lists the first problems
            of each kind and says how to mend them.
    """
    report = examine_fast(description, select_splits(description, split), sample_limit=sample_limit)
    lines = []
    for finding in report.findings:
        if finding.kind.severity is not Severity.ERROR:
            continue
        lines += [printable(example.detail) for example in finding.examples]
        if finding.count > len(finding.examples):
            lines.append(f"... and {finding.count - len(finding.examples)} more")
        lines.append(f"mend: {finding.kind.mend}")
    if lines:
        raise ValueError(f"split {split!r} of the dataset {description.root} has problems:\n  " + "\n  ".join(lines))


def _spread(samples: Sequence[Sample], limit: int | None) -> Sequence[Sample]:
    """At most `limit` samples, evenly spaced and with the first and the last among them."""
    if limit is None or len(samples) <= limit:
        return samples
    if limit < 2:
        return samples[:limit]
    return [samples[index * (len(samples) - 1) // (limit - 1)] for index in range(limit)]
