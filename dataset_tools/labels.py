"""Label definitions: which names polygon files may use, and which ids and train ids they become.

Cityscapes' table is built in; other labellings are read from YAML:

    labels:
      - {name: road, id: 7, train_id: 0, category: flat, color: [128, 64, 128]}
      - {name: unlabeled, id: 0, train_id: 255, category: void, color: [0, 0, 0]}

`polygons` paints with these definitions.
"""

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dataset_tools.files import write_text
from dataset_tools.validation import describe_problems

UNLABELED = "unlabeled"
IGNORE_TRAIN_ID = 255


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
    color: tuple[int, int, int] = (0, 0, 0)


class _LabelFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[LabelDefinition, ...] = Field(min_length=1)


def load_labels(path: Path) -> tuple[LabelDefinition, ...]:
    """Reads label definitions from YAML.

    Args:
        path: A file with one key, `labels`.

    Returns:
        The definitions in file order.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is malformed, or a name stands twice; the message holds all problems.
    """
    if not path.is_file():
        raise FileNotFoundError(f"label definitions not found: {path}")
    try:
        labels = _LabelFile.model_validate(yaml.safe_load(path.read_text())).labels
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise ValueError(describe_problems(error, path)) from error
    names = [label.name for label in labels]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"{path}: the names {', '.join(repeated)} are defined more than once")
    return labels


def save_labels(path: Path, labels: Sequence[LabelDefinition]) -> None:
    """Writes label definitions as YAML that `load_labels` reads."""
    content = {"labels": [{**label.model_dump(), "color": list(label.color)} for label in labels]}
    write_text(path, yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120))


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
