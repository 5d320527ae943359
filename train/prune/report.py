"""What pruning changed: size, accuracy and time of the network before and after."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rich.table import Table

from dataset_tools.config import DatasetConfig
from fasterseg.base.console import CONSOLE
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import write_text
from fasterseg.networks import Size, measure_size
from fasterseg.runtime.load import load_checkpoint
from latency.measure import run_measure
from train.evaluate import Evaluation, score_model

_PER_GIGA = 1e9


@dataclass(frozen=True)
class PrunedFigures:
    """One network's figures.

    Attributes:
        network: `before` or `after`.
        parameters: Trainable values, auxiliary heads included.
        gmacs: Multiply-accumulates at the report's input size, in billions.
        miou: On the validation split; None without an experiment file.
        median_ms: On the target's runner; None without an experiment file.
        conditions: Under what the time was measured.
    """

    network: str
    parameters: int
    gmacs: float
    miou: float | None = None
    median_ms: float | None = None
    conditions: str | None = None


@dataclass(frozen=True)
class PruneReport:
    """What pruning changed.

    Attributes:
        factor: Part of the filters that was kept.
        ranking: How they were ranked.
        input_size: (height, width) of the operations' count and the times.
        rows: The network before and after.
    """

    factor: float
    ranking: str
    input_size: Size
    rows: tuple[PrunedFigures, ...]

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready plain data."""
        return {**asdict(self), "input_size": list(self.input_size), "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The report that `to_dict` wrote."""
        height, width = data["input_size"]
        rows = tuple(PrunedFigures(**row) for row in data["rows"])
        return cls(data["factor"], data["ranking"], (height, width), rows)


def measure_networks(
    files: Mapping[str, Path], *, input_size: Size, image_scale: float, experiment: Experiment | None
) -> tuple[PrunedFigures, ...]:
    """The figures of checkpoints by name; scores and times too where there is an experiment.

    Args:
        files: The checkpoints.
        input_size: (height, width) to count operations at.
        image_scale: Factor of the images that they are scored on.
        experiment: Read with the sections `dataset`, `target`, `space` and `latency`, or None.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: A network is of other classes than the dataset, or the target's runtime is absent.
    """
    rows = {name: _size(name, path, input_size) for name, path in files.items()}
    if experiment is None:
        return tuple(rows.values())
    split = experiment.section("dataset", DatasetConfig).validation_split
    times = run_measure(experiment, [str(path) for path in files.values()]).rows
    measured = []
    for (name, path), time in zip(files.items(), times, strict=True):
        scores = score_model(experiment, Evaluation(model=path, split=split, image_scale=image_scale))
        measured.append(
            PrunedFigures(
                name,
                rows[name].parameters,
                rows[name].gmacs,
                miou=scores.miou,
                median_ms=time.measurement.median_ms,
                conditions=time.measurement.describe(),
            )
        )
    return tuple(measured)


def write_prune_report(report: PruneReport, out: Path) -> None:
    """Writes `report.json` and `report.md` and prints the table."""
    write_text(out / "report.json", json.dumps(report.to_dict(), indent=2) + "\n")
    header = ["", *(row.network for row in report.rows), "after / before"]
    lines = [
        _line("parameters", [row.parameters for row in report.rows], "{:,}"),
        _line("GMACs", [row.gmacs for row in report.rows], "{:.4g}"),
        _line("mIoU (validation)", [row.miou for row in report.rows], "{:.4f}"),
        _line("measured, ms", [row.median_ms for row in report.rows], "{:.4g}"),
    ]
    text = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    text += ["| " + " | ".join(line) + " |" for line in lines]
    height, width = report.input_size
    text += ["", f"- factor {report.factor:g} by {report.ranking}, input {height}x{width}"]
    text += [f"- {row.network}: {row.conditions}" for row in report.rows if row.conditions is not None]
    write_text(out / "report.md", "\n".join(text) + "\n")
    table = Table(*header)
    for line in lines:
        table.add_row(*line)
    CONSOLE.print(table, soft_wrap=False)


def _line(name: str, values: list[Any], form: str) -> list[str]:
    """A figure of both networks as text, with their ratio."""
    if None in values:
        return [name, *("-" for _ in values), "-"]
    ratio = f"{values[1] / values[0]:.3f}" if values[0] else "-"
    return [name, *(form.format(value) for value in values), ratio]


def _size(name: str, path: Path, input_size: Size) -> PrunedFigures:
    size = measure_size(load_checkpoint(path).build(), input_size)
    return PrunedFigures(name, size.parameters, size.macs / _PER_GIGA)
