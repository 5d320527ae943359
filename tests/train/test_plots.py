"""The plot of a confusion matrix."""

from pathlib import Path

import numpy as np
from PIL import Image

from fasterseg.engine.metrics import scores_from_confusion
from train.plots import plot_confusion


def test_the_plot_is_a_picture_that_follows_the_matrix(tmp_path: Path) -> None:
    names = ("road", "car", "absent")
    right = scores_from_confusion(np.diag([9, 5, 0]), names)
    wrong = scores_from_confusion(np.array([[0, 9, 0], [5, 0, 0], [0, 0, 0]]), names)
    pictures = []
    for number, scores in enumerate((right, wrong)):
        plot_confusion(scores, tmp_path / f"{number}.png")
        pictures.append(np.asarray(Image.open(tmp_path / f"{number}.png")))
    assert pictures[0].shape == pictures[1].shape and not np.array_equal(*pictures)
