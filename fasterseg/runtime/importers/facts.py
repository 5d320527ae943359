"""Class names, colours and normalisation of an imported network, which the published files do not contain.

They come from a `dataset.yaml`. Without one, a network of 19 classes gets those of Cityscapes, and the classes of other
networks are numbered.
"""

import colorsys
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fasterseg.base.errors import describe_validation
from fasterseg.base.yamlfile import read_yaml
from fasterseg.engine.checkpoint import DatasetFacts

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_IGNORE_INDEX = 255
_GOLDEN_ANGLE = 0.618034

_Value = Annotated[int, Field(ge=0, le=255)]
_Mean = Annotated[float, Field(allow_inf_nan=False)]
_Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Class(NamedTuple):
    name: str
    label_id: int
    color: tuple[int, int, int]


# train id, by position, of the 19 classes that Cityscapes' benchmark counts
_CITYSCAPES = (
    _Class("road", 7, (128, 64, 128)),
    _Class("sidewalk", 8, (244, 35, 232)),
    _Class("building", 11, (70, 70, 70)),
    _Class("wall", 12, (102, 102, 156)),
    _Class("fence", 13, (190, 153, 153)),
    _Class("pole", 17, (153, 153, 153)),
    _Class("traffic light", 19, (250, 170, 30)),
    _Class("traffic sign", 20, (220, 220, 0)),
    _Class("vegetation", 21, (107, 142, 35)),
    _Class("terrain", 22, (152, 251, 152)),
    _Class("sky", 23, (70, 130, 180)),
    _Class("person", 24, (220, 20, 60)),
    _Class("rider", 25, (255, 0, 0)),
    _Class("car", 26, (0, 0, 142)),
    _Class("truck", 27, (0, 0, 70)),
    _Class("bus", 28, (0, 60, 100)),
    _Class("train", 31, (0, 80, 100)),
    _Class("motorcycle", 32, (0, 0, 230)),
    _Class("bicycle", 33, (119, 11, 32)),
)


class _ClassEntry(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str
    color: tuple[_Value, _Value, _Value]
    label_id: int | None = None


class _Normalization(BaseModel):
    mean: tuple[_Mean, _Mean, _Mean] = IMAGENET_MEAN
    std: tuple[_Deviation, _Deviation, _Deviation] = IMAGENET_STD


class _DatasetFile(BaseModel):
    model_config = ConfigDict(extra="ignore")
    classes: Annotated[list[_ClassEntry], Field(min_length=1)]
    ignore_index: _Value = _IGNORE_INDEX
    normalization: _Normalization = _Normalization()


def imported_facts(num_classes: int | None, dataset_file: Path | None = None) -> DatasetFacts:
    """Class names, colours and normalisation of an imported network.

    Args:
        num_classes: Channels of its logits; None to use the number in the file.
        dataset_file: A `dataset.yaml`; without one 19 classes are Cityscapes', others are numbered. Normalisation is
            ImageNet's, as all published programs have it, unless the file says otherwise.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or describes another number of classes.
    """
    if dataset_file is not None:
        facts = _read_dataset_file(dataset_file)
        if num_classes not in (None, facts.num_classes):
            raise ValueError(
                f"{dataset_file} describes {facts.num_classes} classes, the network has {num_classes}; give the "
                "dataset.yaml of the dataset it was trained on"
            )
        return facts
    if num_classes is None or num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1, or a dataset.yaml that lists the classes")
    if num_classes == len(_CITYSCAPES):
        names, label_ids, colors = zip(*_CITYSCAPES, strict=True)
        return DatasetFacts(names, colors, _IGNORE_INDEX, IMAGENET_MEAN, IMAGENET_STD, label_ids)
    numbers = range(num_classes)
    return DatasetFacts(
        class_names=tuple(f"class {index}" for index in numbers),
        colors=tuple(_hue(index * _GOLDEN_ANGLE % 1) for index in numbers),
        ignore_index=_IGNORE_INDEX,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    )


def _hue(hue: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(hue, 0.8, 0.9))
    return red, green, blue


def _read_dataset_file(path: Path) -> DatasetFacts:
    if not path.is_file():
        raise FileNotFoundError(f"no dataset description at {path}; expected the dataset.yaml of a dataset folder")
    try:
        file = _DatasetFile.model_validate(read_yaml(path))
    except ValidationError as error:
        problems = "; ".join(describe_validation(error))
        raise ValueError(f"{path} is not a dataset description: {problems}") from error
    label_ids = tuple(entry.label_id for entry in file.classes if entry.label_id is not None)
    return DatasetFacts(
        class_names=tuple(entry.name for entry in file.classes),
        colors=tuple(entry.color for entry in file.classes),
        ignore_index=file.ignore_index,
        mean=file.normalization.mean,
        std=file.normalization.std,
        label_ids=label_ids if len(label_ids) == len(file.classes) else None,
    )
