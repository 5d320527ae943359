"""What pruning changed: size, accuracy and time of the network before and after, and a plot of the filter norms."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from matplotlib.figure import Figure

from dataset_tools.config import DatasetConfig
from fasterseg.base.console import print_table
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import replacing, write_text
from fasterseg.base.text import markdown_table
from fasterseg.networks import Size, measure_size
from fasterseg.runtime.load import load_checkpoint
from latency.measure import run_measure
from train.evaluate import Evaluation, score_model
from train.prune.filters import FilterGroup, Plan

_COLUMNS = 6
_PANEL_INCHES = (3.1, 2.1)
_MARGIN_INCHES = 0.6


@dataclass(frozen=True)
class PrunedFigures:
    """One network's figures.

    Attributes:
        network: `before` or `after`.
        parameters: Number of trainable parameters, auxiliary heads included.
        gmacs: Multiply-accumulates at the report's input size, in billions.
        miou: mIoU on the validation split; None without an experiment file.
        median_ms: Median latency on the target's runner; None without an experiment file.
        conditions: Conditions of the latency measurement.
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
        factor: Fraction of the filters that was kept.
        ranking: How they were ranked.
        input_size: (height, width) that operations are counted and times measured at.
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
        image_scale: Scale factor of the images that they are scored on.
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
    height, width = report.input_size
    text = [*markdown_table(header, lines), ""]
    text += [f"- factor {report.factor:g} by {report.ranking}, input {height}x{width}"]
    text += [f"- {row.network}: {row.conditions}" for row in report.rows if row.conditions is not None]
    write_text(out / "report.md", "\n".join(text) + "\n")
    print_table(header, lines)


def plot_norms(groups: Sequence[FilterGroup], plan: Plan, path: Path) -> None:
    """Draws one panel for each group: norms from the largest to the smallest, kept ones dark, the cut as a line.

    Args:
        groups: The network's filter groups.
        plan: The filters that are kept.
        path: The PNG to write.
    """
    rows = math.ceil(len(groups) / _COLUMNS)
    # the margins are set by hand: automatic layouts of this many panels take seconds
    width, height = _PANEL_INCHES[0] * _COLUMNS, _PANEL_INCHES[1] * rows + _MARGIN_INCHES
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(
        left=0.05, right=0.99, bottom=_MARGIN_INCHES / height, top=1 - 0.4 / height, wspace=0.25, hspace=0.6
    )
    panels = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for panel, group in zip(panels, groups, strict=False):
        kept = len(plan[group.name])
        norms = np.sort(group.norms)[::-1]
        ranks = np.arange(1, group.size + 1)
        panel.fill_between(ranks, norms, step="mid", color="lightgrey")
        panel.fill_between(ranks[:kept], norms[:kept], step="mid", color="steelblue")
        panel.axvline(kept + 0.5, color="firebrick", linewidth=1)
        panel.set_ylim(bottom=0)
        coupled = "" if len(group.convolutions) == 1 else f" (+{len(group.convolutions) - 1})"
        panel.set_title(f"{group.name.removesuffix('.conv')}{coupled}\n{kept} of {group.size}", fontsize=7)
        panel.tick_params(labelsize=6)
        panel.locator_params(nbins=3)
    for panel in panels[len(groups) :]:
        panel.set_visible(False)
    figure.supxlabel("filters, largest L1 norm first")
    figure.supylabel("L1 norm")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)


def _line(name: str, values: list[Any], form: str) -> list[str]:
    """A figure of both networks as text, with their ratio."""
    if None in values:
        return [name, *("-" for _ in values), "-"]
    ratio = f"{values[1] / values[0]:.3f}" if values[0] else "-"
    return [name, *(form.format(value) for value in values), ratio]


def _size(name: str, path: Path, input_size: Size) -> PrunedFigures:
    size = measure_size(load_checkpoint(path).build(), input_size)
    return PrunedFigures(name, size.parameters, size.gmacs)
