import numpy as np
import pytest

from dataset_tools.synthesis.weather import KINDS, Weather, apply_weather, draw_weather


def drawn(kind: str) -> Weather:
    return next(
        weather
        for weather in (draw_weather(np.random.default_rng(seed)) for seed in range(500))
        if weather.kind == kind
    )


@pytest.mark.parametrize("kind", KINDS)
def test_distant_things_fade_to_the_horizon(kind: str) -> None:
    weather = drawn(kind)
    size = (32, 64)
    results = []
    for distance in (1.0, 5000.0):
        color = np.full((*size, 3), 0.02, np.float32)
        image = apply_weather(
            color, np.full(size, distance, np.float32), np.zeros(size, np.float32), weather, np.random.default_rng(0)
        )
        results.append(np.abs(np.median(image, axis=(0, 1)) - weather.horizon).max())
    assert results[1] < 0.15
    assert results[1] < results[0]


def test_only_sun_casts_shadows() -> None:
    for kind in KINDS:
        assert (drawn(kind).shadow < 1) == (kind in ("clear", "dusk"))
