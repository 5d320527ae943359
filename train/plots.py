"""Plots of evaluations and comparisons."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fasterseg.engine.files import replacing
from fasterseg.engine.metrics import SegmentationScores

_INCHES_PER_CLASS = 0.45


def plot_confusion(scores: SegmentationScores, path: Path) -> None:
    """Draws the confusion matrix as a PNG: each row is what became of the pixels of one class, in parts of 1.

    Args:
        scores: What `fasterseg.engine.evaluation.evaluate` gave.
        path: The PNG to write.
    """
    rows = scores.confusion.sum(axis=1, keepdims=True)
    parts = np.divide(scores.confusion, rows, out=np.zeros(scores.confusion.shape), where=rows > 0)
    count = len(scores.class_names)
    side = 3 + _INCHES_PER_CLASS * count
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(parts, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(count), scores.class_names, rotation=90)
    axes.set_yticks(range(count), scores.class_names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("labelled")
    axes.set_title(f"mIoU {scores.miou:.3f}, pixel accuracy {scores.pixel_accuracy:.3f}")
    for row in range(count):
        for column in range(count):
            if parts[row, column] >= 0.005:
                color = "white" if parts[row, column] > 0.5 else "black"
                axes.text(column, row, f"{parts[row, column]:.2f}", ha="center", va="center", color=color, fontsize=7)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def pareto_front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The networks that no other one beats in both time and accuracy, the fastest first.

    Args:
        points: Time in milliseconds and mIoU, by name.
    """
    front: list[str] = []
    for name, (_, miou) in sorted(points.items(), key=lambda point: (point[1][0], -point[1][1])):
        if not front or miou > points[front[-1]][1]:
            front.append(name)
    return front


def plot_tradeoff(points: Mapping[str, tuple[float, float]], path: Path, *, runner: str) -> None:
    """Draws mIoU against latency as a PNG, with the Pareto front as a line.

    Args:
        points: Time in milliseconds and mIoU, by name.
        path: The PNG to write.
        runner: What the times were measured on.
    """
    front = pareto_front(points)
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(
        [points[name][0] for name in front],
        [points[name][1] for name in front],
        color="steelblue",
        drawstyle="steps-post",
        linewidth=1.2,
        label="Pareto front",
    )
    for name, (latency_ms, miou) in points.items():
        axes.scatter(latency_ms, miou, s=40, zorder=3, color="steelblue" if name in front else "grey")
        axes.annotate(name, (latency_ms, miou), xytext=(6, 5), textcoords="offset points", fontsize=9)
    axes.set_xscale("log")
    axes.margins(x=0.2, y=0.15)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.set_xlabel(f"latency on {runner}, ms (median)")
    axes.set_ylabel("mIoU")
    axes.legend(loc="lower right")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
