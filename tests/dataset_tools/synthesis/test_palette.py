import numpy as np
import pytest

from dataset_tools.synthesis import palette


@pytest.mark.parametrize(
    "entries", [palette.BUILDING, palette.VEGETATION, palette.ROAD, palette.PAINT, palette.CLOTHES, palette.SIGN]
)
def test_colours_stay_in_range(entries: tuple[tuple[float, float, float], ...]) -> None:
    generator = np.random.default_rng(0)
    drawn = np.stack([palette.draw_color(generator, entries, 0.3) for _ in range(50)])
    assert drawn.shape == (50, 3)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std(axis=0).min() > 0.02
