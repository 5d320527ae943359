"""Pictures of labels and examples."""

import numpy as np
import torch

from fasterseg.engine.pictures import colorize, denormalize, example_picture

COLORS = ((10, 20, 30), (200, 100, 0))


def test_colorize_blackens_what_is_no_class() -> None:
    picture = colorize(np.array([[0, 1], [255, -1]]), COLORS)
    assert picture.tolist() == [[[10, 20, 30], [200, 100, 0]], [[0, 0, 0], [0, 0, 0]]]


def test_denormalize_inverts_normalisation() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    original = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    normalised = (original / 255 - np.array(mean)) / np.array(std)
    image = torch.from_numpy(normalised.transpose(2, 0, 1)).float()
    assert np.array_equal(denormalize(image, mean=mean, std=std), original)


def test_example_has_three_parts() -> None:
    ids = torch.zeros(4, 6, dtype=torch.int64)
    picture = example_picture(torch.zeros(3, 4, 6), ids, ids + 1, colors=COLORS, mean=(0, 0, 0), std=(1, 1, 1))
    assert picture.shape == (4, 18, 3)
    assert picture[0, [0, 6, 12]].tolist() == [[0, 0, 0], [10, 20, 30], [200, 100, 0]]
