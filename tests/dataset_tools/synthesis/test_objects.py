from collections.abc import Callable

import numpy as np
import pytest

from dataset_tools.synthesis import objects
from dataset_tools.synthesis.objects import Place, SceneObject
from dataset_tools.synthesis.surfaces import Camera

CAMERA = Camera((128, 256), focal_px=130.0, horizon_px=52.0, vanishing_px=128.0, height_m=1.7, bend=0.0)
Make = Callable[[Camera, Place, np.random.Generator], list[SceneObject]]


@pytest.mark.parametrize(
    ("make", "labels"),
    [
        (objects.car, {"car"}),
        (objects.person, {"person"}),
        (objects.tree, {"vegetation"}),
        (objects.pole, {"pole", "traffic sign"}),
    ],
)
@pytest.mark.parametrize("x", [-4.0, 0.0, 4.0])
def test_things_stand_on_the_ground_and_shrink(make: Make, labels: set[str], x: float) -> None:
    heights = []
    for z in (6.0, 12.0):
        parts = make(CAMERA, Place(x, z), np.random.default_rng(5))
        assert {part.label for part in parts} <= labels
        points = np.concatenate([part.outline for part in parts])
        foot = CAMERA.project(np.array([x, 0.0, z]))[1]
        assert points[:, 1].max() == pytest.approx(foot, abs=1.5)
        heights.append(np.ptp(points[:, 1]))
    assert heights[0] > 1.5 * heights[1]


def test_poles_are_never_too_thin() -> None:
    for seed in range(20):
        post = objects.pole(CAMERA, Place(4.0, 30.0), np.random.default_rng(seed))[0]
        assert np.ptp(post.outline[:, 0]) >= 5


def test_people_are_large_enough() -> None:
    for seed in range(20):
        outline = objects.person(CAMERA, Place(2.0, 10.5), np.random.default_rng(seed))[0].outline
        assert np.ptp(outline[:, 0]) >= 6
        assert np.ptp(outline[:, 1]) >= 14
