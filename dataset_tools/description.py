"""What a dataset is: a folder with a `dataset.yaml` and one list of images and masks per split.

    name: street
    classes:
      - {name: road, color: [128, 64, 128], label_id: 7}    # label_id is optional: the id in the source labelling
      - {name: car, color: [0, 0, 142], label_id: 26}
    ignore_index: 255
    splits: {train: train.txt, val: val.txt}
    normalization: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}    # optional

The position in `classes` is the train id. A list is CSV below the line `image,mask` (`lists` reads an older form too);
its paths are relative to the dataset folder, and a row without a mask is an image without labels. Converters and the
synthesis write this form; everything else reads it through `load_description`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dataset_tools.files import record_made
from dataset_tools.lists import read_table, table_text
from dataset_tools.paths import path_below
from dataset_tools.samples import Sample
from dataset_tools.transforms import IMAGENET_MEAN, IMAGENET_STD, Color
from fasterseg.base.errors import problems_of
from fasterseg.base.files import write_text
from fasterseg.base.yamlfile import read_yaml

DESCRIPTION_NAME = "dataset.yaml"
LIST_HEADER = ("image", "mask")


@dataclass(frozen=True)
class DatasetDescription:
    """A dataset, checked: classes, splits and normalisation.

    Attributes:
        root: The dataset folder.
        name: Name of the dataset.
        class_names: One per train id.
        colors: One RGB colour (0..255) per train id.
        splits: Samples of each split, in list order.
        label_ids: Id of each class in the source labelling, where it has one.
        ignore_index: Mask value of pixels that are not labelled.
        mean: Normalisation, per RGB channel for values in 0..1.
        std: Normalisation, per RGB channel.

    Raises:
        ValueError: Names every field that contradicts another.
    """

    root: Path
    name: str
    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    splits: Mapping[str, tuple[Sample, ...]]
    label_ids: tuple[int, ...] | None = None
    ignore_index: int = 255
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD

    def __post_init__(self) -> None:
        """Checks the fields against each other."""
        problems = []
        count = len(self.class_names)
        repeated = sorted({name for name in self.class_names if self.class_names.count(name) > 1})
        if repeated:
            problems.append(f"classes: the names {', '.join(repeated)} stand more than once; each class needs its own")
        if len(self.colors) != count:
            problems.append(f"colors: found {len(self.colors)} for {count} classes; give one per class")
        if self.label_ids is not None and len(self.label_ids) != count:
            problems.append(
                f"label_id: found {len(self.label_ids)} for {count} classes; give one to each class or to none"
            )
        if not count <= self.ignore_index <= 255:
            problems.append(
                f"ignore_index: found {self.ignore_index}, expected a value that is no class and fits 8 bits, "
                f"{count}..255"
            )
        if min(self.std) <= 0:
            problems.append(f"normalization.std: found {list(self.std)}, expected values above 0")
        if problems:
            raise ValueError(f"{self.root / DESCRIPTION_NAME}:\n  " + "\n  ".join(problems))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def digest(self) -> str:
        """A hash of all but the folder's place: classes, normalisation, and the files of every split in order."""
        splits = {
            split: [
                [relative_name(path, self.root) for path in (sample.image, sample.mask) if path is not None]
                for sample in samples
            ]
            for split, samples in self.splits.items()
        }
        facts = [self.class_names, self.colors, self.label_ids, self.ignore_index, self.mean, self.std, splits]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def samples(self, split: str) -> tuple[Sample, ...]:
        """The samples of a split.

        Args:
            split: Its name, or several joined by "+", e.g. "train+val".

        Returns:
            The samples in list order.

        Raises:
            ValueError: There is no such split, or it is empty.
        """
        joined: list[Sample] = []
        for name in split.split("+"):
            if name not in self.splits:
                raise ValueError(
                    f"dataset {self.root} has no split {name!r}; it has {', '.join(self.splits) or 'none'}"
                )
            if not self.splits[name]:
                raise ValueError(
                    f"split {name!r} of the dataset {self.root} is empty; its list needs at least one line"
                )
            joined.extend(self.splits[name])
        return tuple(joined)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _ClassEntry(_Strict):
    name: str = Field(min_length=1)
    color: tuple[int, int, int]
    label_id: int | None = None


class _Normalization(_Strict):
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD


class _DescriptionFile(_Strict):
    """dataset.yaml as it stands on disk."""

    name: str
    classes: tuple[_ClassEntry, ...] = Field(min_length=1, max_length=255)
    ignore_index: int = 255
    splits: dict[str, str] = Field(min_length=1)
    normalization: _Normalization = _Normalization()


def load_description(root: Path) -> DatasetDescription:
    """Reads and checks `dataset.yaml` and the lists of its splits.

    Args:
        root: The dataset folder.

    Returns:
        The description. That the files of the lists exist is checked by `doctor.examine.verify_split`, or on reading.

    Raises:
        FileNotFoundError: There is no dataset.yaml, or a list is missing.
        ValueError: The file or a list is malformed; the message holds all problems.
    """
    path = root / DESCRIPTION_NAME
    if not path.is_file():
        raise FileNotFoundError(
            f"no dataset at {root}: {path} is missing; make one with `python -m dataset_tools synthesize {root}` or "
            "`python -m dataset_tools convert`, or correct dataset.root"
        )
    content = _parse(path)
    label_ids = tuple(entry.label_id for entry in content.classes if entry.label_id is not None)
    problems: list[str] = []
    splits = {name: _read_list(root, list_name, problems) for name, list_name in content.splits.items()}
    for entry in content.classes:
        if not all(0 <= value <= 255 for value in entry.color):
            problems.append(f"{path}: class {entry.name}: color {list(entry.color)}, expected three values in 0..255")
    if problems:
        raise ValueError("\n".join(problems))
    return DatasetDescription(
        root=root,
        name=content.name,
        class_names=tuple(entry.name for entry in content.classes),
        colors=tuple(entry.color for entry in content.classes),
        splits=splits,
        label_ids=label_ids or None,
        ignore_index=content.ignore_index,
        mean=content.normalization.mean,
        std=content.normalization.std,
    )


def _parse(path: Path) -> _DescriptionFile:
    """Reads dataset.yaml; every malformed field is named in one message."""
    try:
        return _DescriptionFile.model_validate(read_yaml(path))
    except ValidationError as error:
        raise ValueError(problems_of(path, error, _DescriptionFile)) from error


def _read_list(root: Path, list_name: str, problems: list[str]) -> tuple[Sample, ...]:
    """Reads one split list; malformed lines are added to the problems."""
    path = root / list_name
    if not path.is_file():
        raise FileNotFoundError(f"split list not found: {path}; correct `splits` in {root / DESCRIPTION_NAME}")
    samples = []
    for number, names in read_table(path, LIST_HEADER, problems):
        mask = path_below(root, names[1]) if len(names) == 2 and names[1] else None
        samples.append(Sample(path_below(root, names[0]), mask, f"{list_name}:{number}"))
    return tuple(samples)


def save_description(description: DatasetDescription, *, lists_folder: Path = Path()) -> None:
    """Writes `dataset.yaml`, last, and one list per split into the dataset folder.

    In a folder that a command has claimed, notes for `clean` what was made: these files, and the images and masks of a
    command that puts its lists beside `dataset.yaml`.

    Args:
        description: What to write; lists are named `<split>.txt`, paths under the root become relative.
        lists_folder: Where the lists go, relative to the dataset folder.
    """
    root = description.root
    lists = {split: (lists_folder / f"{split}.txt").as_posix() for split in description.splits}
    for split, samples in description.splits.items():
        rows = (["" if path is None else relative_name(path, root) for path in sample[:2]] for sample in samples)
        write_text(root / lists[split], table_text(LIST_HEADER, rows))
    classes: list[dict[str, object]] = [
        {"name": name, "color": list(color)}
        for name, color in zip(description.class_names, description.colors, strict=True)
    ]
    if description.label_ids is not None:
        for entry, label_id in zip(classes, description.label_ids, strict=True):
            entry["label_id"] = label_id
    content = {
        "name": description.name,
        "classes": classes,
        "ignore_index": description.ignore_index,
        "splits": lists,
        "normalization": {"mean": list(description.mean), "std": list(description.std)},
    }
    write_text(root / DESCRIPTION_NAME, yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))
    record_made(root / lists_folder, [root / name for name in lists.values()])
    record_made(root, [root / DESCRIPTION_NAME])
    if lists_folder == Path():
        pairs = (sample[:2] for samples in description.splits.values() for sample in samples)
        record_made(root, (path for pair in pairs for path in pair if path is not None), keep_marks=True)


def relative_name(path: Path, root: Path) -> str:
    """A path as lists hold it: relative to the dataset folder where it lies in it, else absolute."""
    return (path.relative_to(root) if path.is_relative_to(root) else path.absolute()).as_posix()


def summarize(description: DatasetDescription) -> str:
    """Name, class count and split sizes in one line."""
    splits = ", ".join(f"{split} {len(samples)}" for split, samples in description.splits.items())
    return f"{description.name}: {description.num_classes} classes; images: {splits}"
