import numpy as np
import pytest

from dataset_tools.synthesis.scene import build_scene


def test_same_seed_same_scene() -> None:
    one, two, other = (build_scene((128, 256), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.camera == two.camera
    assert [item.label for item in one.objects] == [item.label for item in two.objects]
    assert all(np.array_equal(a.outline, b.outline) for a, b in zip(one.objects, two.objects, strict=True))
    assert one.camera != other.camera


def test_back_to_front() -> None:
    for seed in range(10):
        scene = build_scene((128, 256), np.random.default_rng(seed))
        labels = [item.label for item in scene.objects]
        assert labels[0] == "sky"
        assert labels.index("sidewalk") < labels.index("road") < labels.index("car")
        things = [item.surface for item in scene.objects if item.label in ("car", "person")]
        distances = [surface.distance_m for surface in things]  # type: ignore[attr-defined]
        assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("size", [(64, 64), (100, 300), (512, 1024)])
def test_any_size(size: tuple[int, int]) -> None:
    scene = build_scene(size, np.random.default_rng(0))
    assert all(np.isfinite(item.outline).all() for item in scene.objects)
    assert len(scene.objects) > 20
