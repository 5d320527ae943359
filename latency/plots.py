"""Plots of times: predicted against measured, and networks and runners side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fasterseg.engine.files import replacing

_DPI = 100


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
    above.set_title(title, fontsize=8, wrap=True)
    above.legend(loc="upper left", fontsize=8)
    below.axhline(0, color="black", linewidth=0.8)
    below.scatter(measured, 100 * (predicted / measured - 1), s=16, alpha=0.8)
    below.set_ylabel("error (%)")
    below.set_xlabel("measured (ms)")
    return figure


def plot_comparison(times_ms: Mapping[str, Mapping[str, tuple[float, float]]], *, title: str) -> Figure:
    """A group of bars for each network, a bar for each runner.

    Args:
        times_ms: By runner, then by network: the time and its spread, both in ms.
        title: What was measured on.
    """
    networks = list(dict.fromkeys(name for times in times_ms.values() for name in times))
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(networks) * (len(times_ms) + 0.5)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(times_ms)
    for index, (runner, times) in enumerate(times_ms.items()):
        rows = [networks.index(name) + (index - (len(times_ms) - 1) / 2) * height for name in times]
        values = [value for value, _ in times.values()]
        spreads = [spread for _, spread in times.values()]
        bars = axes.barh(rows, values, height * 0.92, xerr=spreads, label=runner, error_kw={"linewidth": 0.8})
        axes.bar_label(bars, labels=[f" {value:.4g}" for value in values], fontsize=8, padding=2)
    axes.set_yticks(range(len(networks)), networks)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("time of one image (ms); whiskers: spread of the rounds")
    axes.set_title(title, fontsize=8, wrap=True)
    axes.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, through a temporary name."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
