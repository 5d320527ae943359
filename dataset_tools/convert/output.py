"""Writing a converted dataset: images linked or copied, masks made, the description last.

Shared by all converters. The source is only read; the output folder must be new, empty or our own. A conversion that
was cut off goes on: files are renamed into place, so one that exists is whole, and it is kept if it is not older than
what it is made of. What is wrong with single images is collected and named at the end; the others are converted.
"""

import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from dataset_tools.convert.source import SourceDataset, SourceImage
from dataset_tools.description import DatasetDescription, save_description
from dataset_tools.files import claim_folder
from dataset_tools.masks import open_stored, write_mask
from dataset_tools.samples import Sample
from fasterseg.base.console import tracked
from fasterseg.base.errors import list_problems
from fasterseg.base.files import write_bytes
from fasterseg.base.machine import available_cores

ImageMode = Literal["link", "copy"]
_MAX_WORKERS = 8

Item = TypeVar("Item")
Result = TypeVar("Result")


class OutputOptions(NamedTuple):
    """How a dataset is written.

    Attributes:
        image_mode: Link images to the source, or copy them.
        dry_run: Make every mask, but write nothing.
        workers: Threads; 0 for one per CPU, at most 8. Does not change the result.
        progress: Show a progress bar.
    """

    image_mode: ImageMode = "link"
    dry_run: bool = False
    workers: int = 0
    progress: bool = True


class Conversion(NamedTuple):
    """What a conversion did.

    Attributes:
        description: The dataset, as written.
        made: Masks that were made now.
        kept: Masks that an earlier run had made; what it had skipped is not counted again.
        without_mask: Images that have no mask.
        skipped: What was left out of the source, with counts.
    """

    description: DatasetDescription
    made: int
    kept: int
    without_mask: int
    skipped: Mapping[str, int]


class _Outcome(NamedTuple):
    """What became of one image."""

    sample: Sample
    made: bool = False
    kept: bool = False
    skipped: Mapping[str, int] = {}
    problem: str | None = None


def check_output(source: Path, out: Path) -> None:
    """Refuses an output folder that is the source, lies in it or holds it.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: The folders overlap.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"source folder not found: {source}")
    inner, outer = out.resolve(), source.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise ValueError(
            f"output {out} and source {source} overlap; give a folder outside the source, which is never changed"
        )


def write_dataset(dataset: SourceDataset, out: Path, options: OutputOptions | None = None) -> Conversion:
    """Writes a dataset folder, or goes on with one that an earlier run of the same settings began.

    Args:
        dataset: What to write.
        out: The folder: new, empty, or left by an earlier run.
        options: How to write.

    Returns:
        What was done.

    Raises:
        ValueError: The folder holds something else, names of the source cannot be used, or images or masks are wrong;
            the message lists the problems of all of them (the first 20, then their number).
    """
    options = options or OutputOptions()
    check_output(dataset.root, out)
    _check_names(dataset)
    if not options.dry_run:
        claim_folder(out, tool=dataset.tool, settings=_claimed_settings(dataset, options.image_mode))
    outcomes = _convert_all(dataset, out, options)
    problems = [found.problem for split in outcomes.values() for found in split if found.problem is not None]
    if problems:
        total = sum(len(split) for split in outcomes.values())
        raise ValueError(
            f"{len(problems)} of {total} images of {dataset.root} cannot be converted:{list_problems(problems)}\n"
            "correct them and run the same command again; it goes on where it was"
        )
    description = DatasetDescription(
        root=out,
        name=dataset.name or dataset.root.resolve().name,
        class_names=dataset.classes.names,
        colors=dataset.classes.colors,
        label_ids=dataset.classes.label_ids,
        splits={split: tuple(found.sample for found in converted) for split, converted in outcomes.items()},
    )
    if not options.dry_run:
        save_description(description)
    return _summary_of(dataset, description, outcomes)


def _summary_of(
    dataset: SourceDataset, description: DatasetDescription, outcomes: Mapping[str, list[_Outcome]]
) -> Conversion:
    """Adds up what became of the images."""
    converted = [found for split in outcomes.values() for found in split]
    skipped = Counter(dataset.skipped)
    for found in converted:
        skipped.update(found.skipped)
    return Conversion(
        description=description,
        made=sum(found.made for found in converted),
        kept=sum(found.kept for found in converted),
        without_mask=sum(found.sample.mask is None for found in converted),
        skipped=dict(+skipped),
    )


def _claimed_settings(dataset: SourceDataset, image_mode: ImageMode) -> dict[str, object]:
    """What decides the content of the folder; the colours and ids of the classes as a digest."""
    table = hashlib.sha256(json.dumps(dataset.classes).encode()).hexdigest()[:16]
    return {
        "source": str(dataset.root.resolve()),
        "images": image_mode,
        **dataset.settings,
        "classes": list(dataset.classes.names),
        "class_table": table,
    }


def _check_names(dataset: SourceDataset) -> None:
    """Refuses empty sources, names that stand twice in a split, and names that lead out of the output folder."""
    problems = []
    for split, images in dataset.splits.items():
        names = [item.name for item in images]
        problems += [
            f"{count} images of the split {split} are named {name!r}; names without their ending must differ"
            for name, count in Counter(names).items()
            if count > 1
        ]
        problems += [
            f"the name {name!r} of the split {split} leads out of the dataset folder"
            for name in (split, *names)
            if not name or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\0" in name
        ]
    if not any(dataset.splits.values()):
        problems.append("there are no images")
    if problems:
        raise ValueError(f"{dataset.root} cannot be converted:{list_problems(problems)}")


def _convert_all(dataset: SourceDataset, out: Path, options: OutputOptions) -> dict[str, list[_Outcome]]:
    """Converts every image, in list order; a bounded number at a time."""
    workers = options.workers or min(available_cores(), _MAX_WORKERS)
    places = [(split, item) for split, images in dataset.splits.items() for item in images]
    converted = _map_bounded(lambda place: _convert(out, place[0], options, place[1]), places, workers)
    shown = tracked(converted, dataset.tool, total=len(places), disable=not options.progress)
    outcomes: dict[str, list[_Outcome]] = {}
    for (split, _), outcome in zip(places, shown, strict=True):
        outcomes.setdefault(split, []).append(outcome)
    return outcomes


def _map_bounded(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    """Like `map`, in threads, in order, with a few items under way at a time, so that memory does not grow.

    Threads, not processes: decoding, painting and PNG compression release Python's lock, and threads need no second
    copy of the program.
    """
    if workers == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def _convert(out: Path, split: str, options: OutputOptions, item: SourceImage) -> _Outcome:
    """Converts one image; what the user can mend becomes a problem."""
    image = out / "images" / split / f"{item.name}{item.image.suffix}"
    mask = None if item.mask is None else out / "masks" / split / f"{item.name}.png"
    try:
        return _write_pair(item, Sample(image, mask), options)
    except (ValueError, FileNotFoundError) as error:
        return _Outcome(Sample(image, mask), problem=str(error))


def _write_pair(item: SourceImage, target: Sample, options: OutputOptions) -> _Outcome:
    """Writes one image and mask where they are not there yet."""
    size = read_image_size(item.image)
    outcome = _Outcome(target)
    if item.mask is not None and target.mask is not None:
        if _is_current(target.mask, item.mask.files) and not options.dry_run:
            outcome = _Outcome(target, kept=True)
        else:
            painted = item.mask.paint(size)
            assert painted.mask.shape == size, "every mask source checks its size"
            if not options.dry_run:
                write_mask(target.mask, painted.mask)
            outcome = _Outcome(target, made=True, skipped=painted.skipped)
    if not options.dry_run:
        _write_image(item.image, target.image, options.image_mode)
    return outcome


def _write_image(source: Path, target: Path, image_mode: ImageMode) -> None:
    """Links or copies one image."""
    if image_mode == "copy":
        if not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            write_bytes(target, source.read_bytes())
    elif not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link whose target is gone does not "exist", yet stands in the way of a new one.
        target.unlink(missing_ok=True)
        target.symlink_to(source.resolve())


def _is_current(mask: Path, files: tuple[Path, ...]) -> bool:
    """Whether a mask of an earlier run can be kept: whole, and not older than what it is made of."""
    if not mask.is_file():
        return False
    made = mask.stat().st_mtime_ns
    if any(not file.exists() or file.stat().st_mtime_ns > made for file in files):
        return False
    try:
        with Image.open(mask) as image:
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError):
        return False
    return True


def read_image_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image as it is stored, from its header alone.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is no image.
    """
    with open_stored(path, "image") as image:
        return image.height, image.width
