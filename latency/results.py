"""What a run of measurements leaves: on the console, as CSV and JSON, and as plots.

Measured networks stand side by side, on one runner or several. Files are named by networks, setups and size, so that a
run on something else does not replace them.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from fasterseg.base.console import CONSOLE, SafeConsole
from fasterseg.base.files import replacing, write_text
from fasterseg.base.text import csv_text
from latency.runners.base import Conditions, LayerTime
from latency.timing import LatencyMeasurement

_SHOWN_LAYERS = 12
_MS_PER_S = 1000.0
_WIDTH_IN_FILES = 120
_LONGEST_NAME = 80
_DIGEST_DIGITS = 8
_DPI = 100


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network's measured time on one runner, beside what a table predicts.

    Attributes:
        name: What the network is called.
        source: Its file, or the name of a preset.
        runner: The runner's name, and its mode where one was asked for.
        measurement: The measured time.
        table_sum_ms: Plain sum of the table's entries; None without a table of this runner that has all operators.
        predicted_ms: The table's prediction, likewise.
        at_table_pace_ms: The measured time, scaled to the machine speed of the table, likewise.
    """

    name: str
    source: str
    runner: str
    measurement: LatencyMeasurement
    table_sum_ms: float | None = None
    predicted_ms: float | None = None
    at_table_pace_ms: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The figures and their conditions as JSON-ready data."""
        return {**vars(self), "measurement": self.measurement.to_dict()}

    def describe(self) -> str:
        """The figures in a few lines."""
        lines = [f"{self.source}: measured {self.measurement.describe()}"]
        if self.predicted_ms is not None and self.table_sum_ms is not None and self.at_table_pace_ms is not None:
            slowdown = self.measurement.median_ms / self.at_table_pace_ms
            lines += [
                f"the table predicts {self.predicted_ms:.3f} ms (plain sum {self.table_sum_ms:.3f} ms); "
                f"measured / predicted = {self.measurement.median_ms / self.predicted_ms:.3f}",
                f"the machine takes {slowdown:.3f} times as long as when the table was measured; at the table's pace "
                f"measured / predicted = {self.at_table_pace_ms / self.predicted_ms:.3f}",
            ]
        return "\n".join(lines)

    def figures(self) -> dict[str, object]:
        """The row of a comparison, by column."""
        measurement = self.measurement
        conditions = measurement.conditions
        return {
            "network": self.name,
            "runner": self.runner,
            "device": conditions.device,
            "mode": conditions.mode,
            "precision": conditions.precision,
            "threads": conditions.threads,
            "median_ms": measurement.median_ms,
            "p95_ms": measurement.p95_ms,
            "spread": measurement.spread,
            "stable": "yes" if measurement.stable else "NO",
            "images_per_s": _MS_PER_S / measurement.median_ms,
            "predicted_ms": self.predicted_ms,
            "at_table_pace_ms": self.at_table_pace_ms,
        }


class LayerProfile(NamedTuple):
    """The times of a network's layers on one runner, or why there are none.

    Attributes:
        times: In the order of execution.
        problem: What keeps the runner from telling them; None where it told them.
    """

    times: tuple[LayerTime, ...]
    problem: str | None = None


def print_comparison(rows: Sequence[MeasuredNetwork]) -> None:
    """Prints the rows as a table; an unsteady time carries a mark."""
    table = Table("network", "runner", "device", "ms", "p95", "spread", "images/s", "predicted", "")
    for row in rows:
        measurement = row.measurement
        table.add_row(
            row.name,
            row.runner,
            measurement.conditions.device,
            f"{measurement.median_ms:.4g}",
            f"{measurement.p95_ms:.4g}",
            f"{measurement.spread:.1%}",
            f"{_MS_PER_S / measurement.median_ms:.4g}",
            "" if row.predicted_ms is None else f"{row.predicted_ms:.4g}",
            "" if measurement.stable else "UNSTABLE",
        )
    _print_table(table)


def save_comparison(rows: Sequence[MeasuredNetwork], folder: Path) -> list[Path]:
    """Writes the rows as `measured_NETWORKS_RUNNERS_HEIGHTxWIDTH`, `.json` and `.csv`, and of several a plot as `.png`.

    The same networks on the same runners replace what they wrote before; others do not.

    Returns:
        The files.
    """
    names = joined_names([row.name for row in rows])
    setups = joined_names([row.measurement.conditions.setup_name for row in rows])
    stem = f"measured_{names}_{setups}_{_size(rows[0])}"
    json_path, csv_path, png_path = (folder / f"{stem}.{suffix}" for suffix in ("json", "csv", "png"))
    write_text(json_path, json.dumps([row.to_dict() for row in rows], indent=2) + "\n")
    figures = [row.figures() for row in rows]
    write_text(csv_path, csv_text(figures))
    if len(rows) == 1:
        return [json_path, csv_path]
    save_figure(plot_comparison(rows), png_path)
    return [json_path, csv_path, png_path]


def comparison_title(rows: Sequence[MeasuredNetwork]) -> str:
    """What the rows were measured on: in common, or each runner by itself where devices differ."""
    devices = {row.runner: _device(row.measurement.conditions) for row in rows}
    size = f"input {_size(rows[0])}"
    if len(set(devices.values())) == 1:
        return f"{size}, {devices[rows[0].runner]}"
    return "; ".join([size, *(f"{runner}: {device}" for runner, device in devices.items())])


def save_layers(row: MeasuredNetwork, layers: Sequence[LayerTime], folder: Path) -> Path:
    """Writes the times of a network's layers as `layers_NETWORK_RUNNER_HEIGHTxWIDTH.csv`, in the order of execution."""
    total_ms = sum(layer.ms for layer in layers)
    figures = [
        {"layer": layer.name, "kind": layer.kind, "ms": layer.ms, "share": layer.ms / total_ms} for layer in layers
    ]
    path = folder / f"layers_{row.name}_{row.measurement.conditions.setup_name}_{_size(row)}.csv"
    write_text(path, csv_text(figures))
    return path


def print_layers(row: MeasuredNetwork, layers: Sequence[LayerTime]) -> None:
    """Prints the dearest layers of a network, and what each kind of layer takes in all."""
    total_ms = sum(layer.ms for layer in layers)
    table = Table("layer", "kind", "ms", "share", title=f"{row.name} on {row.runner}: {len(layers)} layers")
    for layer in sorted(layers, key=lambda each: each.ms, reverse=True)[:_SHOWN_LAYERS]:
        table.add_row(layer.name, layer.kind, f"{layer.ms:.3f}", f"{layer.ms / total_ms:.1%}")
    _print_table(table)
    kinds: dict[str, float] = defaultdict(float)
    for layer in layers:
        kinds[layer.kind] += layer.ms
    shares = ", ".join(f"{kind} {ms:.3f} ms" for kind, ms in sorted(kinds.items(), key=lambda item: -item[1]))
    CONSOLE.print(f"by kind: {shares}; {total_ms:.3f} ms in all, while profiled")


def plot_comparison(rows: Sequence[MeasuredNetwork]) -> Figure:
    """A group of bars for each network, a bar for each runner that it was timed on; unsteady times carry a star."""
    networks = list(dict.fromkeys(row.name for row in rows))
    runners = list(dict.fromkeys(row.runner for row in rows))
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(networks) * (len(runners) + 0.5)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(runners)
    for runner in runners:
        measured = {row.name: row.measurement for row in rows if row.runner == runner}
        middles = [networks.index(name) + _bar_offset(runner, name, rows) * height for name in measured]
        times_ms = [measurement.median_ms for measurement in measured.values()]
        spreads_ms = [measurement.spread * measurement.median_ms / 2 for measurement in measured.values()]
        drawn = axes.barh(middles, times_ms, height * 0.92, xerr=spreads_ms, label=runner, error_kw={"linewidth": 0.8})
        labels = [_bar_label(measurement) for measurement in measured.values()]
        axes.bar_label(drawn, labels=labels, fontsize=8, padding=2)
    axes.set_yticks(range(len(networks)), networks)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    starred = "" if all(row.measurement.stable for row in rows) else "; *: unsteady"
    axes.set_xlabel(f"time of one image (ms); whiskers: spread of the rounds{starred}")
    axes.set_title(comparison_title(rows), fontsize=8, wrap=True)
    axes.legend(fontsize=8)
    return figure


def plot_validation(measured_ms: Sequence[float], predicted_ms: Sequence[float], *, title: str) -> Figure:
    """Predicted against measured times around the diagonal, and the errors below.

    Args:
        measured_ms: Measured time of each network.
        predicted_ms: The prediction for it.
        title: What was measured on.
    """
    measured, predicted = np.asarray(measured_ms), np.asarray(predicted_ms)
    figure = Figure(figsize=(6, 7.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    ends = [min(measured.min(), predicted.min()), max(measured.max(), predicted.max())]
    above.plot(ends, ends, color="black", linewidth=0.8, label="predicted = measured")
    above.scatter(measured, predicted, s=16, alpha=0.8, label=f"{len(measured)} networks")
    above.set_ylabel("predicted (ms)")
    above.set_title(title, fontsize=7, wrap=True)
    above.legend(loc="upper left", fontsize=8)
    below.axhline(0, color="black", linewidth=0.8)
    below.scatter(measured, 100 * (predicted / measured - 1), s=16, alpha=0.8)
    below.set_ylabel("error (%)")
    below.set_xlabel("measured (ms)")
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, through a temporary name."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)


def joined_names(names: Sequence[str]) -> str:
    """One name made of several, each taken once: joined by `+`, or their count and a digest where that is too long."""
    each_once = tuple(dict.fromkeys(names))
    joined = "+".join(each_once)
    if len(joined) <= _LONGEST_NAME:
        return joined
    return f"{len(each_once)}_{hashlib.sha256(joined.encode()).hexdigest()[:_DIGEST_DIGITS]}"


def _bar_offset(runner: str, network: str, rows: Sequence[MeasuredNetwork]) -> float:
    """How far a runner's bar is from the middle of its network's group, in bars."""
    present = list(dict.fromkeys(row.runner for row in rows if row.name == network))
    return present.index(runner) - (len(present) - 1) / 2


def _bar_label(measurement: LatencyMeasurement) -> str:
    figure = f"{measurement.median_ms:#.4g}".rstrip(".")
    return f" {figure}{'' if measurement.stable else ' *'}"


def _print_table(table: Table) -> None:
    """Prints a table; into a file or a pipe, which have no width, wide enough for names to stay whole."""
    console = CONSOLE if CONSOLE.is_terminal else SafeConsole(file=CONSOLE.file, width=_WIDTH_IN_FILES)
    console.print(table, soft_wrap=False)


def _size(row: MeasuredNetwork) -> str:
    _, _, height, width = row.measurement.input_shape
    return f"{height}x{width}"


def _device(conditions: Conditions) -> str:
    return (
        f"{conditions.device} ({conditions.device_name}), {conditions.precision}, {conditions.threads} "
        f"thread{'s' * (conditions.threads > 1)}"
    )
