"""`train compare`: any set of networks on one dataset and one target, in one table, one CSV and one plot.

It compares run folders, checkpoints, exported files and presets: accuracy on the same images, size at the same input
size, and times from one interleaved measurement on each runner.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.console import print_table
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import file_digest, write_text
from fasterseg.base.text import csv_text, markdown_table
from fasterseg.engine.metrics import SegmentationScores
from fasterseg.engine.run_folder import open_run_folder
from fasterseg.networks import build_network, measure_size
from fasterseg.networks.presets import PRESETS, resolve_architecture
from fasterseg.networks.space import SpaceConfig
from fasterseg.runtime.load import ONNX_SUFFIX, load_card, load_checkpoint
from latency.config import LatencyConfig, TargetConfig
from latency.measure import run_measure
from latency.timing import LatencyMeasurement
from train.config import NETWORK_SECTIONS
from train.evaluate import Evaluation, score_model
from train.plots import plot_tradeoff

STAGE = "compare"
SECTIONS: dict[str, type[BaseModel]] = {
    "dataset": DatasetConfig,
    "target": TargetConfig,
    "space": SpaceConfig,
    "latency": LatencyConfig,
    **NETWORK_SECTIONS,
}
_SETUP_FIELDS = ("device", "mode", "precision", "threads")


@dataclass(frozen=True)
class Candidate:
    """A network to compare.

    Attributes:
        name: Name in the table.
        model: A checkpoint, an exported file, or the name of a preset, which has no weights and so no accuracy.
    """

    name: str
    model: str

    @property
    def is_trained(self) -> bool:
        """Whether it has weights."""
        return self.model not in PRESETS

    @property
    def path(self) -> Path:
        """Its file, where it is trained."""
        return Path(self.model)


@dataclass(frozen=True)
class ComparedNetwork:
    """One network's figures.

    Attributes:
        name: Name in the table.
        model: Its file or preset.
        parameters: Number of trainable parameters, auxiliary heads included.
        gmacs: Multiply-accumulates at the target's input size, in billions.
        scores: Scores on the split; None for a preset, which has no weights.
        times: Measured time by runner, without runners that cannot run the network.
    """

    name: str
    model: str
    parameters: int
    gmacs: float
    scores: SegmentationScores | None
    times: Mapping[str, LatencyMeasurement]

    def figures(self, runners: Sequence[str]) -> dict[str, object]:
        """The row of the table, by column; None if a runner cannot run the network."""
        scores = self.scores
        row: dict[str, object] = {"network": self.name, "model": self.model}
        row |= {"miou": None if scores is None else scores.miou, "parameters": self.parameters, "gmacs": self.gmacs}
        for runner in runners:
            time = self.times.get(runner)
            row[f"{runner}_ms"] = None if time is None else time.median_ms
            row[f"{runner}_spread"] = None if time is None else time.spread
            row[f"{runner}_stable"] = None if time is None else "yes" if time.stable else "NO"
        return row

    def setups(self, runners: Sequence[str]) -> dict[str, object]:
        """What the times were measured on, by column."""
        row: dict[str, object] = {}
        for runner in runners:
            time = self.times.get(runner)
            for name in _SETUP_FIELDS:
                row[f"{runner}_{name}"] = None if time is None else getattr(time.conditions, name)
        return row

    def classes(self, class_names: Sequence[str]) -> dict[str, object]:
        """The IoU of every class, by column."""
        ious: Sequence[float | None] = [None] * len(class_names) if self.scores is None else self.scores.per_class_iou
        return {f"iou/{name}": iou for name, iou in zip(class_names, ious, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON-ready data."""
        scores = None if self.scores is None else self.scores.to_dict()
        times = {runner: measurement.to_dict() for runner, measurement in self.times.items()}
        return {**self.figures(tuple(self.times)), "scores": scores, "times": times}


def find_candidates(names: Sequence[str]) -> tuple[Candidate, ...]:
    """The networks that a command line names: `NAME=MODEL` or MODEL, which is a run folder, a file or a preset.

    Raises:
        FileNotFoundError: There is no such file, folder or preset, or no `best.pt` in the folder.
        ValueError: Two networks have one name.
    """
    candidates = []
    for text in names:
        label, separator, model = text.partition("=")
        model = model if separator else text
        candidates.append(_candidate(model, label if separator else None))
    called = [candidate.name for candidate in candidates]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice:
        raise ValueError(f"several networks are called {', '.join(twice)}; name them apart as NAME=MODEL")
    return tuple(candidates)


def _candidate(model: str, name: str | None) -> Candidate:
    path = Path(model)
    if path.is_dir():
        best = path / "best.pt"
        if not best.is_file():
            raise FileNotFoundError(f"no best.pt in {path}; is it the folder of a training stage that has validated?")
        return Candidate(name or path.resolve().name, str(best))
    if path.is_file():
        called = path.stem if path.suffix.lower() == ONNX_SUFFIX else path.resolve().parent.name
        return Candidate(name or called, model)
    if model in PRESETS:
        return Candidate(name or model, model)
    raise FileNotFoundError(
        f"no network at {model}; name a run folder, a best.pt, an exported .onnx or one of the presets "
        f"{', '.join(PRESETS)}"
    )


def run_compare(
    experiment: Experiment,
    candidates: Sequence[Candidate],
    *,
    out: Path,
    image_scale: float,
    split: str,
    runners: Sequence[str] = (),
) -> tuple[ComparedNetwork, ...]:
    """Scores, counts and times networks; writes `comparison.csv`, `.json`, `.md` and `tradeoff.png`.

    Args:
        experiment: Read with `SECTIONS`.
        candidates: The networks.
        out: The run folder.
        image_scale: Scale factor of the images that networks are scored on.
        split: Split of the dataset.
        runners: Names of runners; empty for the target's runner.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: A network is of other classes than the dataset or of another input size than the target, or a
            runtime is absent.
    """
    description = ExperimentData.load(experiment).description
    settings = {
        "dataset": {"root": str(description.root), "digest": description.digest(), "split": split},
        "image_scale": image_scale,
        "target": experiment.section("target", TargetConfig).model_dump(mode="json"),
        "latency": experiment.section("latency", LatencyConfig).model_dump(mode="json"),
        "runners": list(runners),
        "networks": {each.name: _identity(each) for each in candidates},
    }
    with open_run_folder(out, stage=STAGE, settings=settings) as run_folder:
        measured = run_measure(
            experiment, [each.model for each in candidates], runners=runners, num_classes=description.num_classes
        )
        compared = []
        for candidate, rows in zip(candidates, measured.networks, strict=True):
            scores = None
            if candidate.is_trained:
                scores = score_model(experiment, Evaluation(candidate.path, split, image_scale=image_scale))
            parameters, gmacs = _size(candidate, experiment, num_classes=description.num_classes)
            times = {row.runner: row.measurement for row in rows}
            compared.append(ComparedNetwork(candidate.name, candidate.model, parameters, gmacs, scores, times))
        order = tuple(dict.fromkeys(row.runner for row in measured.rows))
        _write(compared, out, class_names=description.class_names, split=split, runners=order)
        run_folder.finish({"networks": [each.figures(order) for each in compared]})
    return tuple(compared)


def _identity(candidate: Candidate) -> str:
    return file_digest(candidate.path) if candidate.is_trained else candidate.model


def _size(candidate: Candidate, experiment: Experiment, *, num_classes: int) -> tuple[int, float]:
    """Parameters, and billions of multiply-accumulates at the target's input size."""
    input_size = experiment.section("target", TargetConfig).input_size
    if not candidate.is_trained:
        network = build_network(resolve_architecture(candidate.model), num_classes)
    elif candidate.path.suffix.lower() == ONNX_SUFFIX:
        card = load_card(candidate.path, input_size=input_size)
        return card.parameters, card.macs / 1e9
    else:
        network = load_checkpoint(candidate.path).build()
    size = measure_size(network, input_size)
    return size.parameters, size.gmacs


def _write(
    networks: Sequence[ComparedNetwork],
    out: Path,
    *,
    class_names: Sequence[str],
    split: str,
    runners: Sequence[str],
) -> None:
    """Writes the table in all its forms and prints it."""
    rows = [{**each.figures(runners), **each.classes(class_names), **each.setups(runners)} for each in networks]
    write_text(out / "comparison.csv", csv_text(rows))
    write_text(out / "comparison.json", json.dumps([each.to_dict() for each in networks], indent=2) + "\n")
    # a column of stability is left out if all its times are stable
    always_stable = {name for name in rows[0] if name.endswith("_stable") and all(row[name] != "NO" for row in rows)}
    columns = [name for name in networks[0].figures(runners) if name != "model" and name not in always_stable]
    lines = [[_shown(each.figures(runners)[column]) for column in columns] for each in networks]
    class_columns = ["IoU", *(each.name for each in networks)]
    class_lines = [
        [name, *(_shown(each.classes(class_names)[f"iou/{name}"]) for each in networks)] for name in class_names
    ]
    text = [*markdown_table(columns, lines), "", *markdown_table(class_columns, class_lines)]
    conditions = [f"- {each.name}: {time.describe()}" for each in networks for time in each.times.values()]
    write_text(out / "comparison.md", "\n".join([*text, "", f"- split {split}", *conditions]) + "\n")
    for runner in runners:
        _plot(networks, out / f"tradeoff_{runner.replace(':', '_')}.png", runner=runner)
    print_table(columns, lines)
    print_table(class_columns, class_lines)


def _plot(networks: Sequence[ComparedNetwork], path: Path, *, runner: str) -> None:
    """Plots accuracy against time of the networks that have both; draws nothing if there are none."""
    points = {
        each.name: (each.times[runner].median_ms, each.scores.miou)
        for each in networks
        if each.scores is not None and runner in each.times
    }
    if points:
        plot_tradeoff(points, path, runner=runner)


def _shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
