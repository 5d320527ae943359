"""Reading experiment files: one YAML file, validated section by section, every problem in one message.

Each room owns the models of its sections; this module knows only that a section is a pydantic model. A stage
names the sections it reads; sections of other stages are left alone, unknown section names are refused.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from fasterseg.base.errors import describe_validation, unknown_key

SECTIONS = ("dataset", "target", "space", "latency", "pretrain", "search", "teacher", "student", "baselines")
TOP_LEVEL = ("name", "seed", *SECTIONS)
Model = TypeVar("Model", bound=BaseModel)


class Section(BaseModel):
    """Base of a section's model: frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
        """The validated section of that name, which must have been asked for when the file was read."""
        section = self.sections[name]
        assert isinstance(section, model)
        return section

    def digest(self, *section_names: str) -> str:
        """A hash of the seed and the named sections: two runs with equal digests had equal settings there."""
        values = {name: self.sections[name].model_dump(mode="json") for name in section_names}
        text = json.dumps({"seed": self.seed, **values}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def stage_folder(self, stage: str) -> Path:
        """Where that stage writes when the user names no other folder."""
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
    for section, model in sections.items():
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
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds a {type(data).__name__}, expected sections such as `dataset:` and `target:`")
    return {key: _unshared(value) for key, value in data.items()}


def _unshared(value: Any) -> Any:
    """A copy in which YAML's aliases are values of their own, so that an override of one leaves the others alone."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


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
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            problems.append(f"--set {override}: the value is not valid YAML: {error}")
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
