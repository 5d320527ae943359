"""Reading experiment files: one YAML file, validated section by section, every problem in one message.

Each room defines the pydantic models of its sections. A stage names the sections that it reads. Sections of other
stages are not validated; unknown section names are refused.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from fasterseg.base.errors import describe_validation, unknown_key
from fasterseg.base.yamlfile import load_yaml, read_yaml

SECTIONS = ("dataset", "target", "space", "latency", "pretrain", "search", "teacher", "student", "baselines")
TOP_LEVEL = ("name", "seed", *SECTIONS)
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Base of a section's model: frozen; refuses unknown keys, booleans for numbers, and infinite or NaN numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_for_a_number(cls, value: object, info: ValidationInfo) -> object:
        # pydantic takes true for 1
        assert info.field_name is not None
        if not _accepts_boolean(cls.model_fields[info.field_name].annotation) and _holds(
            value, lambda item: isinstance(item, bool)
        ):
            raise ValueError("expected no true or false here (YAML reads yes, no, on and off as such, too)")
        return value

    @field_validator("*")
    @classmethod
    def _finite_numbers(cls, value: object) -> object:
        if _holds(value, lambda item: isinstance(item, float) and not math.isfinite(item)):
            raise ValueError("expected a finite number")
        return value


@dataclass(frozen=True)
class Experiment:
    """A validated experiment file.

    Attributes:
        name: The experiment's name; its outputs go to `runs/<name>/<stage>/`.
        seed: The seed of everything random in it.
        source: The file it was read from.
        raw: The whole file as plain data after the overrides, unread sections included.
        sections: The validated models, by section name.
    """

    name: str
    seed: int
    source: Path
    raw: dict[str, Any]
    sections: dict[str, BaseModel]

    def section(self, name: str, model: type[Model]) -> Model:
        """The validated section of that name; `load_experiment` must have been given its model."""
        section = self.sections[name]
        assert isinstance(section, model)
        return section

    def digest(self, *section_names: str) -> str:
        """A hash of the seed and the named sections: two runs with equal digests had equal settings there."""
        values = {name: self.sections[name].model_dump(mode="json") for name in section_names}
        text = json.dumps({"seed": self.seed, **values}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def stage_folder(self, stage: str) -> Path:
        """The default run folder of a stage."""
        return Path("runs") / self.name / stage


def load_experiment(path: Path, overrides: Sequence[str], sections: Mapping[str, type[BaseModel]]) -> Experiment:
    """Reads and validates an experiment file.

    Args:
        path: The YAML file.
        overrides: `section.field=value` settings, later ones win; values are YAML.
        sections: The model of each section the caller reads; an absent section is validated as an empty one.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Anything in the file or the overrides is wrong; the message lists all problems.
    """
    raw = _read_yaml(path)
    problems = _apply_overrides(raw, overrides)
    problems += [unknown_key(key, TOP_LEVEL) for key in raw if key not in TOP_LEVEL]
    name, seed = raw.get("name", path.stem), raw.get("seed", 0)
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\\0"):
        problems.append(f"name: got {name!r}, expected a plain word that can name a folder")
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        problems.append(f"seed: got {seed!r}, expected a whole number of at least 0")
    models: dict[str, BaseModel] = {}
    unfit = [name for name in SECTIONS if not isinstance(raw.get(name), dict | None)]
    problems += [f"{name}: got {raw[name]!r}, expected fields such as those in configs/toy.yaml" for name in unfit]
    for section, model in sections.items():
        if section in unfit:
            continue
        try:
            models[section] = model.model_validate(raw.get(section) or {})
        except ValidationError as error:
            problems += describe_validation(error, model, section=section)
    if problems:
        raise ValueError(f"{path} has {len(problems)} problem(s):\n" + "\n".join(f"  - {text}" for text in problems))
    return Experiment(name=name, seed=seed, source=path, raw=raw, sections=models)


def dataset_num_classes(experiment: Experiment) -> int:
    """The class count of the experiment's dataset, read from the `dataset.yaml` that `dataset.root` points to.

    Raises:
        ValueError: The experiment names no dataset folder, or its `dataset.yaml` lists no classes.
        FileNotFoundError: The folder has no `dataset.yaml`.
    """
    root = (experiment.raw.get("dataset") or {}).get("root")
    if not isinstance(root, str):
        raise ValueError(f"{experiment.source}: dataset.root is not set; expected the folder that holds dataset.yaml")
    file = Path(root) / "dataset.yaml"
    if not file.is_file():
        raise FileNotFoundError(
            f"no {file}; make the dataset first with `python pipeline.py --config {experiment.source} "
            "--until dataset`, `python -m dataset_tools synthesize` or `python -m dataset_tools convert`"
        )
    classes = _read_yaml(file).get("classes")
    if not isinstance(classes, list) or not classes:
        raise ValueError(f"{file}: classes is {classes!r}, expected a list of at least one class")
    return len(classes)


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}; configs/ holds examples, such as configs/toy.yaml")
    data = read_yaml(path)
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__}, expected sections such as `dataset:` and `target:`")
    return {key: _without_aliases(value) for key, value in data.items()}


def _holds(value: object, wanted: Callable[[object], bool]) -> bool:
    """Whether a value, or an item of a list, meets a condition."""
    return any(_holds(item, wanted) for item in value) if isinstance(value, list | tuple) else wanted(value)


def _accepts_boolean(annotation: object) -> bool:
    """Whether a field's type accepts true and false."""
    return annotation in (bool, Any, object) or any(_accepts_boolean(part) for part in get_args(annotation))


def _without_aliases(value: Any) -> Any:
    """A copy in which every YAML alias is a separate value, so that overriding one leaves the others unchanged."""
    if isinstance(value, dict):
        return {key: _without_aliases(item) for key, item in value.items()}
    return [_without_aliases(item) for item in value] if isinstance(value, list) else value


def _apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Writes each `a.b=c` into the raw data; returns the problems."""
    problems = []
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = key.split(".")
        if not separator or not all(parts):
            problems.append(f"--set {override}: expected section.field=value, such as student.epochs=10")
            continue
        try:
            value = load_yaml(text, f"--set {override}: the value")
        except ValueError as error:
            problems.append(str(error))
            continue
        target = raw
        for depth, part in enumerate(parts[:-1]):
            child = target.get(part)
            if child is None:
                child = target[part] = {}
            if not isinstance(child, dict):
                problems.append(f"--set {override}: {'.'.join(parts[: depth + 1])} is {child!r}, not a section")
                break
            target = child
        else:
            target[parts[-1]] = value
    return problems
