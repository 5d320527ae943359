"""Plots of evaluations."""

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
