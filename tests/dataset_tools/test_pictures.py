import numpy as np

from dataset_tools.pictures import UNKNOWN_COLOR, overlay, shrink

COLORS = ((200, 0, 0), (0, 200, 0))


def test_overlay() -> None:
    image = np.full((2, 4, 3), 100, np.uint8)
    label = np.array([[0, 1, 255, 7], [0, 1, 255, 7]], np.uint16)
    covered = overlay(image, label, COLORS, ignore_index=255)
    assert covered[0, 0].tolist() == [155, 45, 45]
    assert covered[0, 1].tolist() == [45, 155, 45]
    assert covered[0, 2].tolist() == [100, 100, 100]
    assert covered[0, 3].tolist() == [round(45 + 0.55 * value) for value in UNKNOWN_COLOR]


def test_overlay_scales_the_label() -> None:
    covered = overlay(np.zeros((4, 4, 3), np.uint8), np.array([[0, 1]], np.uint8), COLORS, ignore_index=255)
    assert (covered[:, :2] == covered[0, 0]).all()
    assert (covered[:, 2:] == covered[0, 3]).all()
    assert covered[0, 0].tolist() != covered[0, 3].tolist()


def test_shrink() -> None:
    image = np.zeros((30, 60, 3), np.uint8)
    assert shrink(image, 20).shape == (10, 20, 3)
    assert shrink(image, 60) is image
