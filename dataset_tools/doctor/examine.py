"""Runs all checks over a dataset: the lists first, then every pair once, in worker processes and bounded memory."""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import cv2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dataset_tools.crops import Crop
from dataset_tools.dataset import Sample
from dataset_tools.description import DESCRIPTION_NAME, DatasetDescription, load_description
from dataset_tools.doctor import list_checks
from dataset_tools.doctor.class_checks import ClassCounts
from dataset_tools.doctor.findings import Findings
from dataset_tools.doctor.inspection import Observation, inspect_pairs
from dataset_tools.doctor.leakage import DuplicateCheck, NearDuplicateCheck, check_groups
from dataset_tools.doctor.list_checks import Splits
from dataset_tools.doctor.pair_checks import ChannelCheck, CropCheck, pair_problems
from dataset_tools.doctor.perceptual import DEFAULT_DISTANCE
from dataset_tools.doctor.report import Report

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
    list_checks.check_shared_files(splits, findings)
    list_checks.check_unlisted(description, findings)
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
    list_checks.check_repeats(splits, findings)
    list_checks.check_shared_masks(splits, findings)
    list_checks.check_missing_masks(splits, findings)


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
    parts = [
        tuple(place.sample for place in places[start : start + _PAIRS_PER_JOB])
        for start in range(0, len(places), _PAIRS_PER_JOB)
    ]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    # On the error stream, so that the report can be piped.
    with Progress(*columns, console=Console(stderr=True), disable=not options.progress) as bar:
        task = bar.add_task("check", total=len(places))
        for observations in _run(parts, description.colors, options.workers):
            yield from observations
            bar.advance(task, len(observations))


def _run(
    parts: Sequence[tuple[Sample, ...]], colors: tuple[tuple[int, int, int], ...], workers: int
) -> Iterator[list[Observation]]:
    """Inspects the parts in this process or in others, a few parts ahead of what is asked for."""
    if workers == 1 or len(parts) * _PAIRS_PER_JOB < _MIN_PAIRS_FOR_POOL:
        for part in parts:
            yield inspect_pairs(part, colors)
        return
    # Spawned, not forked: a forked copy of a process that runs PyTorch or OpenCV threads may hang.
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,)) as pool:
        waiting: deque[Future[list[Observation]]] = deque()
        for part in parts:
            waiting.append(pool.submit(inspect_pairs, part, colors))
            if len(waiting) > workers * _JOBS_AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
