"""Label definitions: which names polygon files may use, and which ids and train ids they become.

Cityscapes' table is built in; other labellings are read from YAML:

    labels:
      - {name: road, id: 7, train_id: 0, category: flat, color: [128, 64, 128]}
      - {name: unlabeled, id: 0, train_id: 255, category: void, color: [0, 0, 0]}

or from a CSV file with the columns of Cityscapes' table, as FasterSeg's custom sets have it:

    name,id,trainId,category,catId,hasInstances,ignoreInEval,color_r,color_g,color_b
    road,7,0,flat,1,False,False,128,64,128

`polygons` paints with these definitions; the converters make classes of them with `class_table`.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fasterseg.base.errors import problems_of
from fasterseg.base.files import write_text
from fasterseg.base.textfile import read_text
from fasterseg.base.yamlfile import read_yaml

UNLABELED = "unlabeled"
IGNORE_TRAIN_ID = 255
CSV_COLUMNS = (
    "name", "id", "trainId", "category", "catId", "hasInstances", "ignoreInEval", "color_r", "color_g", "color_b"
)  # fmt: skip
_CSV_NEEDED = ("name", "id", "trainId", "color_r", "color_g", "color_b")


_ColorValue = Annotated[int, Field(ge=0, le=255)]


class LabelDefinition(BaseModel):
    """One label of a labelling.

    Attributes:
        name: As polygon files spell it.
        id: Id in the full labelling; a negative one is never painted.
        train_id: Class a network learns, or 255 for none. Several labels may share one.
        category: Group of labels.
        color: RGB, 0..255.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    id: int = Field(le=255)
    train_id: int = Field(le=255)
    category: str = "void"
    color: tuple[_ColorValue, _ColorValue, _ColorValue] = (0, 0, 0)


class _LabelFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[LabelDefinition, ...] = Field(min_length=1)


class ClassTable(NamedTuple):
    """The classes that a network learns.

    Attributes:
        names: One per train id.
        colors: RGB per train id.
        label_ids: Id in the source labelling, per train id; None where the source has none.
    """

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    label_ids: tuple[int, ...] | None = None


def load_labels(path: Path) -> tuple[LabelDefinition, ...]:
    """Reads label definitions from YAML or, where the name ends in .csv, from CSV.

    Args:
        path: A YAML file with one key, `labels`, or a CSV file with a header line. Of the CSV's columns, catId,
            hasInstances and ignoreInEval are not used: what no network shall learn has the trainId 255 or -1.

    Returns:
        The definitions in file order.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is malformed, or a name stands twice; the message holds all problems.
    """
    if not path.is_file():
        raise FileNotFoundError(f"label definitions not found: {path}")
    try:
        content = _read_csv(path) if path.suffix.lower() == ".csv" else read_yaml(path)
        labels = _LabelFile.model_validate(content).labels
    except ValidationError as error:
        raise ValueError(problems_of(path, error, _LabelFile)) from error
    names = [label.name for label in labels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: the names {', '.join(repeated)} are defined more than once")
    return labels


def _read_csv(path: Path) -> dict[str, object]:
    """Reads the CSV form into what the YAML form holds; that the values are numbers is checked with the model."""
    rows = csv.DictReader(io.StringIO(read_text(path), newline=""), skipinitialspace=True)
    missing = [column for column in _CSV_NEEDED if column not in (rows.fieldnames or ())]
    if missing:
        raise ValueError(
            f"{path}: the header line lacks {', '.join(missing)}; expected {','.join(CSV_COLUMNS)}, separated by commas"
        )
    return {"labels": [_label_of_row(row) for row in rows]}


def _label_of_row(row: Mapping[str, str]) -> dict[str, object]:
    """One line of the CSV form under the names of `LabelDefinition`."""
    label: dict[str, object] = {"name": row["name"], "id": row["id"], "train_id": row["trainId"]}
    if row.get("category"):
        label["category"] = row["category"]
    return {**label, "color": (row["color_r"], row["color_g"], row["color_b"])}


def save_labels(path: Path, labels: Sequence[LabelDefinition]) -> None:
    """Writes label definitions in the form that `load_labels` reads: CSV where the name ends in .csv, else YAML."""
    if path.suffix.lower() == ".csv":
        write_text(path, _csv_text(labels))
        return
    content = {"labels": [{**label.model_dump(), "color": list(label.color)} for label in labels]}
    write_text(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))


def _csv_text(labels: Sequence[LabelDefinition]) -> str:
    """The CSV form; categories are numbered in the order of their first label."""
    categories = list(dict.fromkeys(label.category for label in labels))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for label in labels:
        ignored = not 0 <= label.train_id < IGNORE_TRAIN_ID
        category_id = categories.index(label.category)
        writer.writerow(
            (label.name, label.id, label.train_id, label.category, category_id, False, ignored, *label.color)
        )
    return text.getvalue()


def class_table(labels: Sequence[LabelDefinition], source: Path | str) -> ClassTable:
    """The classes that label definitions make: each train id gets the name, colour and id of its first label.

    Args:
        labels: The definitions.
        source: Where they come from, for the message.

    Returns:
        The classes in the order of their train ids.

    Raises:
        ValueError: There is no class, or the train ids leave one out.
    """
    first: dict[int, LabelDefinition] = {}
    for label in labels:
        if 0 <= label.train_id < IGNORE_TRAIN_ID:
            first.setdefault(label.train_id, label)
    missing = sorted(set(range(max(first, default=0) + 1)) - first.keys())
    if missing:
        raise ValueError(
            f"{source}: no label has the train id {', '.join(map(str, missing))}; the train ids of the classes must be "
            "0, 1, 2, ... without gaps, and 255 for what no network shall learn"
        )
    ordered = [first[train_id] for train_id in sorted(first)]
    return ClassTable(
        names=tuple(label.name for label in ordered),
        colors=tuple(label.color for label in ordered),
        label_ids=tuple(label.id for label in ordered),
    )


def label_text(value: object, place: str) -> str:
    """The name of a label as a file of another program has it: a text, or a number as text.

    Raises:
        ValueError: It is null, true, false, empty, or a list or object.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        shown = json.dumps(value) if value is None or isinstance(value, bool | str) else f"a {type(value).__name__}"
        raise ValueError(f"{place}: the name of the label is {shown}, expected a text; correct it there")
    return value


def train_id_or_ignore(label: LabelDefinition) -> int:
    """The value of a label in a mask of train ids: its train id, or 255 where that is negative."""
    return label.train_id if label.train_id >= 0 else IGNORE_TRAIN_ID


def find_label(name: str, labels: Sequence[LabelDefinition]) -> LabelDefinition | None:
    """Finds the definition of a polygon's label.

    Args:
        name: As the polygon file has it. A group of objects, `cargroup`, is a `car` unless it has its own definition.
        labels: The definitions.

    Returns:
        The definition, or None when there is none.
    """
    by_name = {label.name: label for label in labels}
    return by_name.get(name) or by_name.get(name.removesuffix("group"))


# name, id, train id, category, colour. Source: the Cityscapes dataset (Cordts et al., CVPR 2016), public label table.
_CITYSCAPES_TABLE: tuple[tuple[str, int, int, str, tuple[int, int, int]], ...] = (
    ("unlabeled", 0, 255, "void", (0, 0, 0)),
    ("ego vehicle", 1, 255, "void", (0, 0, 0)),
    ("rectification border", 2, 255, "void", (0, 0, 0)),
    ("out of roi", 3, 255, "void", (0, 0, 0)),
    ("static", 4, 255, "void", (0, 0, 0)),
    ("dynamic", 5, 255, "void", (111, 74, 0)),
    ("ground", 6, 255, "void", (81, 0, 81)),
    ("road", 7, 0, "flat", (128, 64, 128)),
    ("sidewalk", 8, 1, "flat", (244, 35, 232)),
    ("parking", 9, 255, "flat", (250, 170, 160)),
    ("rail track", 10, 255, "flat", (230, 150, 140)),
    ("building", 11, 2, "construction", (70, 70, 70)),
    ("wall", 12, 3, "construction", (102, 102, 156)),
    ("fence", 13, 4, "construction", (190, 153, 153)),
    ("guard rail", 14, 255, "construction", (180, 165, 180)),
    ("bridge", 15, 255, "construction", (150, 100, 100)),
    ("tunnel", 16, 255, "construction", (150, 120, 90)),
    ("pole", 17, 5, "object", (153, 153, 153)),
    ("polegroup", 18, 255, "object", (153, 153, 153)),
    ("traffic light", 19, 6, "object", (250, 170, 30)),
    ("traffic sign", 20, 7, "object", (220, 220, 0)),
    ("vegetation", 21, 8, "nature", (107, 142, 35)),
    ("terrain", 22, 9, "nature", (152, 251, 152)),
    ("sky", 23, 10, "sky", (70, 130, 180)),
    ("person", 24, 11, "human", (220, 20, 60)),
    ("rider", 25, 12, "human", (255, 0, 0)),
    ("car", 26, 13, "vehicle", (0, 0, 142)),
    ("truck", 27, 14, "vehicle", (0, 0, 70)),
    ("bus", 28, 15, "vehicle", (0, 60, 100)),
    ("caravan", 29, 255, "vehicle", (0, 0, 90)),
    ("trailer", 30, 255, "vehicle", (0, 0, 110)),
    ("train", 31, 16, "vehicle", (0, 80, 100)),
    ("motorcycle", 32, 17, "vehicle", (0, 0, 230)),
    ("bicycle", 33, 18, "vehicle", (119, 11, 32)),
    ("license plate", -1, 255, "vehicle", (0, 0, 142)),
)

CITYSCAPES_LABELS: tuple[LabelDefinition, ...] = tuple(
    LabelDefinition(name=name, id=label_id, train_id=train_id, category=category, color=color)
    for name, label_id, train_id, category, color in _CITYSCAPES_TABLE
)
