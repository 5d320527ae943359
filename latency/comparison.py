"""Measured networks side by side, on one runner or several: as a table on the console, as CSV, JSON and a bar plot."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from fasterseg.base.console import CONSOLE, SafeConsole
from fasterseg.base.files import write_text
from latency.csvtext import csv_text
from latency.filenames import joined_names, setup_name
from latency.plots import Bar, plot_comparison, save_figure
from latency.runners import Conditions, LayerTime
from latency.timing import LatencyMeasurement

_SHOWN_LAYERS = 12
_MS_PER_S = 1000.0
_WIDTH_IN_FILES = 120


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
        at_table_pace_ms: The measured time at the pace the machine had when the table was measured, likewise.
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
            pace = self.measurement.median_ms / self.at_table_pace_ms
            lines += [
                f"the table predicts {self.predicted_ms:.3f} ms (plain sum {self.table_sum_ms:.3f} ms); "
                f"measured / predicted = {self.measurement.median_ms / self.predicted_ms:.3f}",
                f"the machine takes {pace:.3f} times as long as when the table was measured; at the table's pace "
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
    setups = joined_names([setup_name(row.measurement.conditions) for row in rows])
    stem = f"measured_{names}_{setups}_{_size(rows[0])}"
    json_path, csv_path, png_path = (folder / f"{stem}.{suffix}" for suffix in ("json", "csv", "png"))
    write_text(json_path, json.dumps([row.to_dict() for row in rows], indent=2) + "\n")
    figures = [row.figures() for row in rows]
    write_text(csv_path, csv_text(figures))
    if len(rows) == 1:
        return [json_path, csv_path]
    bars: dict[str, dict[str, Bar]] = defaultdict(dict)
    for row in rows:
        measurement = row.measurement
        spread_ms = measurement.spread * measurement.median_ms / 2
        bars[row.runner][row.name] = Bar(measurement.median_ms, spread_ms, measurement.stable)
    save_figure(plot_comparison(bars, title=comparison_title(rows)), png_path)
    return [json_path, csv_path, png_path]


def comparison_title(rows: Sequence[MeasuredNetwork]) -> str:
    """What the rows were measured on: in common, or each runner by itself where devices differ."""
    places = {row.runner: _place(row.measurement.conditions) for row in rows}
    size = f"input {_size(rows[0])}"
    if len(set(places.values())) == 1:
        return f"{size}, {places[rows[0].runner]}"
    return "; ".join([size, *(f"{runner}: {place}" for runner, place in places.items())])


def save_layers(row: MeasuredNetwork, layers: Sequence[LayerTime], folder: Path) -> Path:
    """Writes the times of a network's layers as `layers_NETWORK_RUNNER_HEIGHTxWIDTH.csv`, in the order of execution."""
    total_ms = sum(layer.ms for layer in layers)
    figures = [
        {"layer": layer.name, "kind": layer.kind, "ms": layer.ms, "share": layer.ms / total_ms} for layer in layers
    ]
    path = folder / f"layers_{row.name}_{setup_name(row.measurement.conditions)}_{_size(row)}.csv"
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


def _print_table(table: Table) -> None:
    """Prints a table; into a file or a pipe, which have no width, wide enough for names to stay whole."""
    console = CONSOLE if CONSOLE.is_terminal else SafeConsole(file=CONSOLE.file, width=_WIDTH_IN_FILES)
    console.print(table, soft_wrap=False)


def _size(row: MeasuredNetwork) -> str:
    _, _, height, width = row.measurement.input_shape
    return f"{height}x{width}"


def _place(conditions: Conditions) -> str:
    return (
        f"{conditions.device} ({conditions.device_name}), {conditions.precision}, {conditions.threads} "
        f"thread{'s' * (conditions.threads > 1)}"
    )
