"""The plots of a confusion matrix and of a comparison."""

from pathlib import Path

import numpy as np
from PIL import Image

from fasterseg.engine.metrics import scores_from_confusion
from train.plots import pareto_front, plot_confusion, plot_tradeoff


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
