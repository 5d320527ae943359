"""Plots of times: predicted against measured, and networks and runners side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from fasterseg.base.files import replacing

_DPI = 100


class Bar(NamedTuple):
    """A network's time on one runner.

    Attributes:
        ms: The time.
        spread_ms: How far the rounds lie apart, to each side.
        stable: Whether that is within the bound.
    """

    ms: float
    spread_ms: float
    stable: bool = True


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


def plot_comparison(bars: Mapping[str, Mapping[str, Bar]], *, title: str) -> Figure:
    """A group of bars for each network, a bar for each runner that it was timed on; unsteady times carry a star.

    Args:
        bars: By runner, then by network.
        title: What was measured on.
    """
    networks = list(dict.fromkeys(name for row in bars.values() for name in row))
    figure = Figure(figsize=(8, 1.2 + 0.35 * len(networks) * (len(bars) + 0.5)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(bars)
    for runner, row in bars.items():
        places = [networks.index(name) + _place(runner, name, bars) * height for name in row]
        widths, spreads = [bar.ms for bar in row.values()], [bar.spread_ms for bar in row.values()]
        drawn = axes.barh(places, widths, height * 0.92, xerr=spreads, label=runner, error_kw={"linewidth": 0.8})
        labels = [f" {f'{bar.ms:#.4g}'.rstrip('.')}{'' if bar.stable else ' *'}" for bar in row.values()]
        axes.bar_label(drawn, labels=labels, fontsize=8, padding=2)
    axes.set_yticks(range(len(networks)), networks)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    starred = "" if all(bar.stable for row in bars.values() for bar in row.values()) else "; *: unsteady"
    axes.set_xlabel(f"time of one image (ms); whiskers: spread of the rounds{starred}")
    axes.set_title(title, fontsize=8, wrap=True)
    axes.legend(fontsize=8)
    return figure


def _place(runner: str, network: str, bars: Mapping[str, Mapping[str, Bar]]) -> float:
    """Where a runner's bar stands in its network's group, counted from the middle in bars."""
    present = [name for name, row in bars.items() if network in row]
    return present.index(runner) - (len(present) - 1) / 2


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG, through a temporary name."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
