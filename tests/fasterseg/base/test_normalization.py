"""Normalisation and back, against the formula in double precision."""

import numpy as np

from fasterseg.base.normalization import denormalize, normalize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def test_normalize_is_the_formula() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    expected = (image / 255 - np.array(MEAN)) / np.array(STD)
    values = normalize(image, mean=MEAN, std=STD)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), atol=2e-6)


def test_normalize_writes_into_the_memory_given() -> None:
    image = np.full((2, 2, 3), 255, np.uint8)
    place = np.zeros((3, 2, 2), np.float32)
    assert normalize(image, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), out=place) is place
    np.testing.assert_allclose(place, 1.0)


def test_denormalize_inverts_normalize() -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(denormalize(normalize(image, mean=MEAN, std=STD), mean=MEAN, std=STD), image)
