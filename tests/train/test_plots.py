"""The plots of a confusion matrix and of a comparison."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from fasterseg.engine.metrics import scores_from_confusion
from train.plots import label_points, pareto_front, plot_confusion, plot_tradeoff


def test_the_plot_is_a_picture_that_follows_the_matrix(tmp_path: Path) -> None:
    names = ("road", "car", "absent")
    right = scores_from_confusion(np.diag([9, 5, 0]), names)
    wrong = scores_from_confusion(np.array([[0, 9, 0], [5, 0, 0], [0, 0, 0]]), names)
    pictures = []
    for number, scores in enumerate((right, wrong)):
        plot_confusion(scores, tmp_path / f"{number}.png")
        pictures.append(np.asarray(Image.open(tmp_path / f"{number}.png")))
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)


def test_the_pareto_front_holds_what_nothing_beats() -> None:
    points = {"slow": (9.0, 0.5), "fast": (1.0, 0.2), "beaten": (5.0, 0.3), "middle": (4.0, 0.4), "equal": (4.0, 0.4)}
    assert pareto_front(points) == ["fast", "middle", "slow"]


def test_networks_are_drawn_by_time_and_accuracy(tmp_path: Path) -> None:
    plot_tradeoff({"a": (1.0, 0.2), "b": (30.0, 0.5)}, tmp_path / "tradeoff.png", runner="onnxruntime")
    assert np.asarray(Image.open(tmp_path / "tradeoff.png")).std() > 5


def test_names_of_points_that_are_close_cover_neither_each_other_nor_a_point() -> None:
    points = {f"a long name, number {index}": (10 + 0.05 * (index % 3), 0.25 + 0.001 * index) for index in range(7)}
    points |= {"first": (1.0, 0.1), "last": (30.0, 0.5)}
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.add_subplot()
    axes.scatter(*zip(*points.values(), strict=True))
    (line,) = axes.plot([1.0, 10.05, 10.05, 30.0], [0.1, 0.1, 0.255, 0.255])
    axes.margins(x=0.25, y=0.2)
    boxes = label_points(axes, points)
    inside = axes.get_window_extent()
    assert list(boxes) == list(points)
    for name, box in boxes.items():
        assert inside.contains(*box.min) and inside.contains(*box.max)
        assert not any(box.overlaps(other) for called, other in boxes.items() if called != name)
        assert not any(box.contains(*axes.transData.transform(point)) for point in points.values())
        assert not line.get_path().transformed(line.get_transform()).intersects_bbox(box, filled=False)
        # what is drawn stands where it was planned
        (drawn,) = (text for text in axes.texts if text.get_text() == name)
        figure.draw_without_rendering()
        extent = Text.get_window_extent(drawn)
        assert np.abs(extent.get_points() - box.get_points()).max() < 5
