import numpy as np
import pytest
from pycocotools import mask as mask_api

from dataset_tools.convert.regions import (
    Patch,
    Region,
    RunLengths,
    Stroke,
    decompress_counts,
    lies_outside,
    trace_polygons,
)


def painted(region: Region, size: tuple[int, int] = (5, 5)) -> list[list[int]]:
    target = np.zeros(size, np.uint8)
    region.paint(target, 1)
    return target.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_compressed_counts_are_those_of_cocos_tools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pixels = (generator.random((37, 53)) < generator.random()).astype(np.uint8)
    pixels[:, 10:40] = seed % 2
    region = RunLengths(decompress_counts(mask_api.encode(np.asfortranarray(pixels))["counts"]))
    assert painted(region, (37, 53)) == pixels.tolist()
    assert region.area_px == pixels.sum()


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    left = trace_polygons([np.array([[0, 0], [2.0, 0], [2, 4], [0, 4]])], (4, 4))
    right = trace_polygons([np.array([[2.0, 0], [4, 0], [4, 4], [2, 4]])], (4, 4))
    assert painted(left, (4, 4)) == [[1, 1, 0, 0]] * 4
    assert painted(right, (4, 4)) == [[0, 0, 1, 1]] * 4


def test_strokes_are_round_and_clipped() -> None:
    assert painted(Stroke(np.array([[0.0, 0]]), 1), (3, 3)) == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert painted(Stroke(np.array([[-9.0, 1], [9, 1]]), 0.5), (3, 3)) == [[0] * 3, [1] * 3, [0] * 3]
    assert painted(Stroke(np.array([[50.0, 50]]), 3), (3, 3)) == [[0] * 3] * 3


def test_patches_are_clipped() -> None:
    patch = Patch(np.ones((2, 2), bool), -1, 2)
    assert painted(patch, (3, 3)) == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert painted(Patch(np.ones((2, 2), bool), 9, 9), (3, 3)) == [[0] * 3] * 3


def test_outside() -> None:
    assert lies_outside(np.array([[6.0, 0], [7, 3]]), (4, 6))
    assert lies_outside(np.array([[0.0, -2], [3, -0.5]]), (4, 6))
    assert not lies_outside(np.array([[-5.0, 0], [0, 3]]), (4, 6))
