"""Writing a converted dataset: images linked or copied, masks made, the description last.

Shared by all converters. The source is only read; the output folder must be new, empty or our own. A conversion that
was cut off goes on: files are renamed into place, so one that exists is whole. A mask notes in its PNG a digest of all
that it was made of, and is kept while that is the same; times of files do not matter. What is wrong with single images
is collected and named at the end; the others are converted.
"""

import filecmp
import hashlib
import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple, TypeVar

from dataset_tools.convert.orientation import DrawnOn, StoredImage, paint_as_stored, read_header
from dataset_tools.convert.source import SourceDataset, SourceImage
from dataset_tools.description import DatasetDescription, save_description
from dataset_tools.files import FileMark, claim_folder, mark_of, read_made, record_made
from dataset_tools.masks import read_made_of, write_mask
from dataset_tools.paths import IMAGE_ENDINGS, count_clutter
from dataset_tools.samples import Sample
from fasterseg.base.console import tracked
from fasterseg.base.errors import list_problems
from fasterseg.base.files import file_digest, write_bytes
from fasterseg.base.machine import available_cores

ImageMode = Literal["link", "copy"]
_MAX_WORKERS = 8
# To be raised when the same sources give other masks than before: those of earlier releases are made again then.
_PAINTING = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


class OutputOptions(NamedTuple):
    """How a dataset is written.

    Attributes:
        image_mode: Link images to the source, or copy them.
        dry_run: Make every mask, but write nothing.
        drawn_on: What annotations of images with an orientation tag were drawn on; see `orientation`.
        workers: Threads; 0 for one per CPU, at most 8. Does not change the result.
        progress: Show a progress bar.
    """

    image_mode: ImageMode = "link"
    dry_run: bool = False
    drawn_on: DrawnOn = "auto"
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
        notes: What else the user should know, one sentence each.
    """

    description: DatasetDescription
    made: int
    kept: int
    without_mask: int
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = ()


class _Outcome(NamedTuple):
    """What became of one image."""

    sample: Sample
    made: bool = False
    kept: bool = False
    turned: bool = False
    by_hand: bool = False
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
        claim_folder(out, tool=dataset.tool, settings=_claimed_settings(dataset, options))
    outcomes = _convert_all(dataset, _Target(out, options, {} if options.dry_run else read_made(out)))
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
        made = [found.sample.mask for split in outcomes.values() for found in split if found.made]
        record_made(out, [mask for mask in made if mask is not None])
    return _summary_of(dataset, description, outcomes)


def _summary_of(
    dataset: SourceDataset, description: DatasetDescription, outcomes: Mapping[str, list[_Outcome]]
) -> Conversion:
    """Adds up what became of the images."""
    converted = [found for split in outcomes.values() for found in split]
    skipped = Counter(dataset.skipped)
    skipped["files that macOS left (._* and __MACOSX)"] = count_clutter(dataset.root)
    for found in converted:
        skipped.update(found.skipped)
    return Conversion(
        description=description,
        made=sum(found.made for found in converted),
        kept=sum(found.kept for found in converted),
        without_mask=sum(found.sample.mask is None for found in converted),
        skipped=dict(+skipped),
        notes=(*dataset.notes, *_notes_of(converted)),
    )


def _notes_of(converted: Sequence[_Outcome]) -> list[str]:
    """What else there is to say of the images."""
    turned, by_hand = sum(found.turned for found in converted), sum(found.by_hand for found in converted)
    notes = []
    if turned:
        notes.append(
            f"{turned} images are stored turned (EXIF): their masks were made on the upright picture, and turned to "
            "fit the pixels as stored, which training reads"
        )
    if by_hand:
        notes.append(f"{by_hand} masks were changed by somebody else after they were made: they were kept")
    return notes


def _claimed_settings(dataset: SourceDataset, options: OutputOptions) -> dict[str, object]:
    """What decides the content of the folder; the colours and ids of the classes as a digest."""
    table = hashlib.sha256(json.dumps(dataset.classes).encode()).hexdigest()[:16]
    return {
        "source": str(dataset.root.resolve()),
        "images": options.image_mode,
        **({} if options.drawn_on == "auto" else {"drawn_on": options.drawn_on}),
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


class _Target(NamedTuple):
    """The folder that is written, how, and the marks of the files that earlier runs wrote there."""

    out: Path
    options: OutputOptions
    made: Mapping[str, FileMark]


def _convert_all(dataset: SourceDataset, target: _Target) -> dict[str, list[_Outcome]]:
    """Converts every image, in list order; a bounded number at a time."""
    options = target.options
    workers = options.workers or min(available_cores(), _MAX_WORKERS)
    places = [(split, item) for split, images in dataset.splits.items() for item in images]
    converted = _map_bounded(lambda place: _convert(target, *place), places, workers)
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


def _convert(target: _Target, split: str, item: SourceImage) -> _Outcome:
    """Converts one image; what the user can mend becomes a problem."""
    ending = item.image.suffix if item.image.suffix.lower() in IMAGE_ENDINGS else ""
    image = target.out / "images" / split / f"{item.name}{ending}"
    mask = None if item.mask is None else target.out / "masks" / split / f"{item.name}.png"
    try:
        return _write_pair(item, Sample(image, mask), target)
    except (ValueError, FileNotFoundError) as error:
        return _Outcome(Sample(image, mask), problem=str(error))


def _write_pair(item: SourceImage, sample: Sample, target: _Target) -> _Outcome:
    """Writes one image and mask where they are not there yet."""
    header, options = read_header(item.image), target.options
    outcome = _Outcome(sample)
    if item.mask is not None and sample.mask is not None:
        made_of = _made_of(item, header, options.drawn_on)
        by_hand = _is_changed_by_hand(sample.mask, target)
        if not options.dry_run and (by_hand or _is_current(sample.mask, made_of)):
            outcome = _Outcome(sample, kept=True, by_hand=by_hand)
        else:
            painted = paint_as_stored(item.mask, item.image, header, options.drawn_on)
            assert painted.mask.shape == header.size, "every mask source checks its size"
            if not options.dry_run:
                write_mask(sample.mask, painted.mask, made_of=made_of)
            outcome = _Outcome(sample, made=True, turned=painted.turned, skipped=painted.skipped)
    if not options.dry_run:
        _write_image(item.image, sample.image, options.image_mode)
    return outcome


def _write_image(source: Path, target: Path, image_mode: ImageMode) -> None:
    """Links or copies one image; a link elsewhere or a copy of other content is replaced."""
    if image_mode == "copy":
        if not target.is_file() or not filecmp.cmp(source, target, shallow=False):
            write_bytes(target, source.read_bytes())
    elif not (target.is_symlink() and target.readlink() == source.resolve()):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.resolve())


def _made_of(item: SourceImage, header: StoredImage, drawn_on: DrawnOn) -> str:
    """A digest of all that decides the mask of an image, beside the settings that the folder is claimed with."""
    assert item.mask is not None, "only images that have a mask"
    digest = hashlib.sha256(repr((_PAINTING, header, drawn_on, item.mask.facts)).encode("utf-8", "surrogateescape"))
    for file in item.mask.files:
        # A file that is missing is named when the mask is made.
        digest.update(file_digest(file).encode() if file.is_file() else b"missing")
    return digest.hexdigest()[:32]


def _is_current(mask: Path, made_of: str) -> bool:
    """Whether a mask of an earlier run can be kept: whole, and made of the same."""
    try:
        return read_made_of(mask) == made_of
    except (ValueError, FileNotFoundError):
        return False


def _is_changed_by_hand(mask: Path, target: _Target) -> bool:
    """Whether somebody else wrote a whole mask over the one that an earlier run made: it lacks our note."""
    mark = target.made.get(mask.relative_to(target.out).as_posix())
    if mark is None or not mask.is_file() or mark_of(mask) == mark:
        return False
    try:
        return not read_made_of(mask)
    except ValueError:
        return False
