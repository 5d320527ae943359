"""Plots of evaluations and comparisons."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from fasterseg.base.files import replacing
from fasterseg.engine.metrics import SegmentationScores

_INCHES_PER_CLASS = 0.45
_LABEL_SIZE = 9
_MARK_PX = 6.0
# directions from a point to its name, in degrees; names are tried on the nearest ring first
_ANGLES = (0, 45, -45, 180, 135, -135, 90, -90, 22, -22, 158, -158, 67, -67, 113, -113)
_NEAREST_PX = 9.0
_RINGS = 8


def plot_confusion(scores: SegmentationScores, path: Path) -> None:
    """Draws the confusion matrix as a PNG; each row holds the fractions that one class's pixels are predicted as.

    Args:
        scores: Result of `fasterseg.engine.evaluation.evaluate`.
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
        runner: Runner that the times were measured on.
    """
    front = pareto_front(points)
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    times, mious = (np.repeat([points[name][axis] for name in front], 2) for axis in (0, 1))
    axes.plot(times[1:], mious[:-1], color="steelblue", linewidth=1.2, label="Pareto front")  # in steps
    for name, (latency_ms, miou) in points.items():
        axes.scatter(latency_ms, miou, s=40, zorder=3, color="steelblue" if name in front else "grey")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25, y=0.2)
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.set_xlabel(f"latency on {runner}, ms (median)")
    axes.set_ylabel("mIoU")
    figure.legend(loc="outside upper right")
    label_points(axes, points)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def label_points(axes: Axes, points: Mapping[str, tuple[float, float]]) -> dict[str, Bbox]:
    """Writes each point's name at the nearest position that covers no point, no line and no other name.

    Args:
        axes: With its points and lines drawn and its limits final.
        points: Position in data units, by name.

    Returns:
        The box of every name, in pixels.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # fixes the layout, so that positions in pixels are final
    inside, points_per_px = axes.get_window_extent(), 72 / figure.dpi
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    marks = {name: axes.transData.transform(point) for name, point in points.items()}
    taken = [Bbox([mark - _MARK_PX, mark + _MARK_PX]) for mark in marks.values()]
    boxes = {}
    for name, mark in marks.items():
        text = axes.text(0, 0, name, fontsize=_LABEL_SIZE)
        extent = text.get_window_extent()
        text.remove()
        candidates = [Bbox([mark + offset, mark + offset + extent.size]) for offset in _offsets(extent)]
        free = (
            box
            for box in candidates
            if _is_free(box, inside, taken) and not any(line.intersects_bbox(box, filled=False) for line in lines)
        )
        box = next(free, candidates[0])
        left, lower = (box.min - mark) * points_per_px
        axes.annotate(
            name,
            points[name],
            xytext=(left, lower),
            textcoords="offset points",
            fontsize=_LABEL_SIZE,
            arrowprops={
                "arrowstyle": "-",
                "color": "grey",
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 3,
                # from the side of the name that is nearest to its point
                "relpos": tuple(np.clip((mark - box.min) / box.size, 0, 1)),
            },
        )
        boxes[name] = box
        taken.append(box)
    return boxes


def _offsets(extent: Bbox) -> Iterator[NDArray[np.float64]]:
    """Offsets (x, y) in pixels from a point to its name's lower left corner, in rings of growing distance."""
    for ring in range(_RINGS):
        distance = _NEAREST_PX + ring * extent.height
        for angle in np.radians(_ANGLES):
            toward = np.array([np.cos(angle), np.sin(angle)])
            # the name's nearest edge stands at the distance, its middle further out
            away = distance + 0.5 * np.abs(toward) * (extent.width, extent.height)
            yield toward * away - (extent.width / 2, extent.height / 2)


def _is_free(box: Bbox, inside: Bbox, taken: Sequence[Bbox]) -> bool:
    """Whether a box is inside the axes and apart from all others."""
    within = inside.x0 < box.x0 and box.x1 < inside.x1 and inside.y0 < box.y0 and box.y1 < inside.y1
    return within and not any(box.overlaps(other) for other in taken)
