"""Mapping lists of other tools, in and out: one image and its mask per line, relative to the dataset folder.

    original_images/train/a_raw.png<TAB>annotations/train/a_labelTrainIds.png

`export` writes `<split>_mapping_list.txt` for every split, and `train_val_mapping_list.txt` where there are both; the
import makes a dataset of a folder that has such lists, or gives a dataset other splits.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dataset_tools.description import DESCRIPTION_NAME, DatasetDescription, load_description, relative_name
from dataset_tools.labels import LabelDefinition, class_table
from dataset_tools.lists import mapping_paths, quote_names, read_lines
from dataset_tools.samples import Sample
from dataset_tools.split import write_splits
from fasterseg.base.errors import list_problems
from fasterseg.base.files import write_text
from fasterseg.base.images import described

ListStyle = Literal["tab", "space", "quoted"]
LIST_SUFFIX = "_mapping_list.txt"
_JOINED = ("train", "val")


def export_lists(
    description: DatasetDescription,
    out: Path,
    *,
    style: ListStyle = "tab",
    overwrite: bool = False,
    dry_run: bool = False,
) -> dict[Path, int]:
    """Writes one mapping list per split, and one of train and val together.

    Args:
        description: The dataset.
        out: Folder of the lists.
        style: What stands between image and mask: a tab, a blank, or a blank with names quoted as in a shell.
        overwrite: Replace lists that exist.
        dry_run: Write nothing.

    Returns:
        Lines of each list.

    Raises:
        ValueError: A list exists, or a name cannot be written in this style; nothing was written.
    """
    splits = {name: samples for name, samples in description.splits.items() if samples}
    if all(name in splits for name in _JOINED):
        splits["_".join(_JOINED)] = description.samples("+".join(_JOINED))
    texts = {out / f"{name}{LIST_SUFFIX}": _lines(description.root, samples, style) for name, samples in splits.items()}
    existing = [str(path) for path in texts if path.exists()]
    if existing and not overwrite:
        raise ValueError(f"{', '.join(existing)} exist; give another folder, or --overwrite to replace them")
    for path, lines in () if dry_run else texts.items():
        write_text(path, "".join(f"{line}\n" for line in lines))
    return {path: len(lines) for path, lines in texts.items()}


def _lines(root: Path, samples: Iterable[Sample], style: ListStyle) -> list[str]:
    """The lines of one list."""
    lines = []
    separator = {"tab": "\t", "space": " ", "quoted": " "}[style]
    for sample in samples:
        names = [relative_name(path, root) for path in sample[:2] if path is not None]
        if style == "quoted":
            lines.append(quote_names(names))
            continue
        unfit = [name for name in names if any(char in name for char in (separator, "\n", "\r"))]
        if unfit:
            raise ValueError(
                f"the name {unfit[0]!r} holds a {'tab' if style == 'tab' else 'blank'} or line break, which a list of "
                f"the style {style} cannot tell from the end of a name; use --style quoted"
            )
        lines.append(separator.join(names))
    return lines


def read_mapping_list(root: Path, path: Path, problems: list[str]) -> tuple[Sample, ...]:
    """Reads a mapping list.

    A line that holds a tab is divided there; any other is divided at blanks, with names quoted as in a shell, unless
    the whole line names a file: that is an image without a mask.

    Args:
        root: The dataset folder that the names are relative to.
        path: The list.
        problems: Gets a line for everything that is wrong: malformed lines, files that do not exist, an image or a mask
            that stands twice.

    Returns:
        The samples in list order.

    Raises:
        FileNotFoundError: The list does not exist.
    """
    if not path.is_file():
        raise FileNotFoundError(f"mapping list not found: {path}")
    samples: list[Sample] = []
    first: dict[Path, str] = {}
    for number, line in read_lines(path):
        origin = f"{path.name}:{number}"
        try:
            alone = "\t" not in line and (root / line).is_file()
            files = [root / line] if alone else mapping_paths(root, line)
        except ValueError as error:
            problems.append(f"{origin}: {error}")
            continue
        if len(files) not in (1, 2) or root in files:
            problems.append(
                f"{origin}: {len(files)} names, expected image and mask; put a tab between names that hold blanks"
            )
            continue
        for file in files:
            if file in first:
                problems.append(f"{origin}: {file} stands at {first[file]} too")
            elif not file.is_file():
                problems.append(f"file not found: {described(file, origin)}")
            first.setdefault(file, origin)
        samples.append(Sample(files[0], files[1] if len(files) == 2 else None, origin))
    if not samples and not problems:
        problems.append(f"{path} is empty")
    return tuple(samples)


def import_lists(
    root: Path,
    lists: Mapping[str, Path],
    *,
    labels: Sequence[LabelDefinition] | None = None,
    name: str | None = None,
    dry_run: bool = False,
) -> DatasetDescription:
    """Makes the splits of a dataset folder be what mapping lists say.

    Args:
        root: The dataset folder; its files stay as they are.
        lists: The list of each split.
        labels: Classes of a folder without `dataset.yaml`; where there is one, its classes hold.
        name: Name of the dataset, in a folder without `dataset.yaml`; the folder's name when None.
        dry_run: Only read and check.

    Returns:
        The description as written.

    Raises:
        FileNotFoundError: A list does not exist.
        ValueError: Lists are malformed or name files that do not exist (all of them are listed), two lists share an
            image, or the classes are missing or given twice.
    """
    problems: list[str] = []
    splits = {split: read_mapping_list(root, path, problems) for split, path in lists.items()}
    owner: dict[Path, Sample] = {}
    for samples in splits.values():
        for sample in samples:
            before = owner.setdefault(sample.image, sample)
            if before is not sample and before.origin.split(":")[0] != sample.origin.split(":")[0]:
                problems.append(f"{sample.image} is in two splits: {before.origin} and {sample.origin}")
    if problems:
        raise ValueError(f"mapping lists with problems, nothing was written:{list_problems(problems)}")
    described_as = _base_description(root, labels, name)
    if not dry_run:
        write_splits(described_as, splits, tool="lists import", label="imported")
    return replace(described_as, splits=splits)


def _base_description(root: Path, labels: Sequence[LabelDefinition] | None, name: str | None) -> DatasetDescription:
    """What dataset.yaml says, or the classes of label definitions where there is none."""
    path = root / DESCRIPTION_NAME
    if path.is_file():
        if labels is not None:
            raise ValueError(f"{path} already says which classes there are; leave out --labels, or remove that file")
        return load_description(root)
    if labels is None:
        raise ValueError(f"{path} is missing: give the classes with --labels FILE (YAML or CSV label definitions)")
    classes = class_table(labels, "label definitions")
    return DatasetDescription(
        root=root,
        name=name or root.resolve().name,
        class_names=classes.names,
        colors=classes.colors,
        splits={},
        label_ids=classes.label_ids,
    )
