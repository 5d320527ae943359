"""Plots of a search: where the branches go, which operators and widths are probable, and how the epochs went."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fasterseg.base.files import replacing
from fasterseg.networks.derivation import (
    FROM_DOWN,
    FROM_KEEP,
    ArchitectureLogits,
    Scores,
    most_probable_path,
    parent_row,
    softmax,
)
from fasterseg.networks.space import STRIDES, SpaceConfig, first_layer

_DPI = 100
_BRANCH_COLORS = {8: "tab:green", 16: "tab:orange", 32: "tab:red"}


def plot_paths(logits: ArchitectureLogits, space: SpaceConfig) -> Figure:
    """The lattice of layers and output strides: edges as dark as they are probable, the derived branches over it."""
    figure = Figure(figsize=(2 + 0.6 * space.layers, 3), layout="constrained")
    axes = figure.add_subplot()
    for layer in range(1, space.layers):
        for stride in space.strides_at(layer):
            for parent, probability in _parents(logits, layer, stride):
                ends = [STRIDES.index(parent), STRIDES.index(stride)]
                axes.plot([layer - 1, layer], ends, color="black", alpha=0.05 + 0.95 * probability, linewidth=1.5)
    for offset, end in enumerate(STRIDES):
        path = most_probable_path(logits.parents, end=end, layers=space.layers)
        heights = np.array([STRIDES.index(stride) for stride in path]) + 0.08 * (offset - 1)
        axes.plot(range(space.layers), heights, color=_BRANCH_COLORS[end], marker="o", label=f"branch to {end}")
    axes.set_yticks(range(len(STRIDES)), [str(stride) for stride in STRIDES])
    axes.invert_yaxis()
    axes.set_xlabel("layer")
    axes.set_ylabel("output stride")
    axes.legend(loc="lower left", fontsize=7)
    return figure


def plot_operators(logits: ArchitectureLogits, space: SpaceConfig) -> Figure:
    """One heat map per output stride: the probability of each operator in each layer."""
    return _heat_maps(logits.operators, {s: first_layer(s) for s in STRIDES}, space.operators, space, "operator")


def plot_widths(logits: ArchitectureLogits, space: SpaceConfig) -> Figure:
    """One heat map per output stride: the probability of each width of the map that enters each layer."""
    names = [f"{width:.3g}" for width in space.widths]
    return _heat_maps(logits.widths, {s: max(1, first_layer(s)) for s in STRIDES}, names, space, "width")


def plot_epochs(history: Sequence[Mapping[str, float]]) -> Figure:
    """Latency and mIoU over the epochs; mIoU of the validated ones only."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for name, label in (
        ("expected_ms", "expected"),
        ("derived_ms", "derived, before fitting"),
        ("predicted_ms", "student"),
        ("budget_ms", "budget"),
    ):
        _plot_series(above, history, name, label=label, style="--" if name == "budget_ms" else "-o")
    above.set_ylabel("latency (ms)")
    for name, label in (("miou", "student"), ("teacher_miou", "teacher")):
        _plot_series(below, history, name, label=label, style="-o")
    below.set_ylabel("supernet's mIoU")
    below.set_xlabel("epoch")
    for axes in (above, below):
        axes.legend(fontsize=7)
    return figure


def save_plot(figure: Figure, path: Path) -> NDArray[np.uint8]:
    """Writes a figure as PNG, through a temporary name.

    Returns:
        The picture, RGB (H, W, 3) uint8.
    """
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
    picture = cv2.imread(str(path))
    assert picture is not None
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _parents(logits: ArchitectureLogits, layer: int, stride: int) -> list[tuple[int, float]]:
    """Each parent's stride of a cell, with its probability."""
    if stride == STRIDES[0]:
        return [(stride, 1.0)]
    if layer == first_layer(stride):
        return [(stride // 2, 1.0)]
    row = softmax(logits.parents[stride][parent_row(layer, stride)])
    return [(stride // 2, float(row[FROM_DOWN])), (stride, float(row[FROM_KEEP]))]


def _heat_maps(
    rows: Mapping[int, Scores], first: Mapping[int, int], names: Sequence[str], space: SpaceConfig, what: str
) -> Figure:
    size = (2 + 0.4 * space.layers, 0.8 + 3 * (0.4 + 0.25 * len(names)))
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(len(STRIDES), 1, sharex=True))
    images = []
    for axes, stride in zip(grid, STRIDES, strict=True):
        probabilities = np.full((len(names), space.layers), np.nan)
        probabilities[:, first[stride] :] = softmax(rows[stride]).T
        images.append(axes.imshow(probabilities, vmin=0, vmax=1, cmap="viridis", aspect="auto"))
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_ylabel(f"stride {stride}")
    grid[-1].set_xlabel("layer")
    figure.colorbar(images[0], ax=grid, label=f"probability of the {what}")
    return figure


def _plot_series(axes: Axes, history: Sequence[Mapping[str, float]], name: str, *, label: str, style: str) -> None:
    points = [(figures["epoch"], figures[name]) for figures in history if name in figures]
    axes.plot([x for x, _ in points], [y for _, y in points], style, label=label, markersize=3)
