"""Pictures of labels and examples."""

import numpy as np

from fasterseg.base.pictures import colorize, example_picture

COLORS = ((10, 20, 30), (200, 100, 0))


def test_colorize_blackens_what_is_no_class() -> None:
    picture = colorize(np.array([[0, 1], [255, -1]]), COLORS)
    assert picture.tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_example_has_three_parts() -> None:
    ids = np.zeros((4, 6), np.int64)
    picture = example_picture(
        np.zeros((3, 4, 6), np.float32), ids, ids + 1, colors=COLORS, mean=(0, 0, 0), std=(1, 1, 1)
    )
    assert picture.shape == (4, 18, 3)
    assert picture[0, [0, 6, 12]].tolist() == [[0, 0, 0], [10, 20, 30], [200, 100, 0]]
