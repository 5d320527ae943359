import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from dataset_tools.doctor.dataset_checks import DEFAULT_DISTANCE
from dataset_tools.doctor.inspection import HASH_BITS, difference_hash


def scene(seed: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(20, 230, (12, 16, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (320, 240), interpolation=cv2.INTER_CUBIC), np.uint8)


def distance(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> int:
    hashes = [difference_hash(first), difference_hash(second)]
    assert hashes[0] is not None
    assert hashes[1] is not None
    assert len(hashes[0]) * 8 == HASH_BITS
    return sum((a ^ b).bit_count() for a, b in zip(hashes[0], hashes[1], strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_copies_are_near_and_others_far(seed: int) -> None:
    image = scene(seed)
    _, data = cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, 60))
    compressed = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    assert distance(image, image) == 0
    assert distance(image, compressed) <= DEFAULT_DISTANCE
    assert distance(image, np.asarray(cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA), np.uint8)) <= 8
    assert distance(image, np.clip(image.astype(int) + 15, 0, 255).astype(np.uint8)) <= DEFAULT_DISTANCE
    assert distance(image, scene(seed + 100)) > 30


def test_even_pictures_have_no_hash() -> None:
    assert difference_hash(np.full((50, 60, 3), 90, np.uint8)) is None
