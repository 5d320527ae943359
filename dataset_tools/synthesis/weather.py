"""Light and air of a synthetic scene: the sky's colours before, and haze, tint, rain and noise after the rendering."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from dataset_tools.synthesis.surfaces import Color, FloatArray, Palette, draw_color

Kind = Literal["clear", "overcast", "fog", "rain", "dusk"]


class _Climate(NamedTuple):
    """What is drawn for a kind of weather.

    Attributes:
        share: Part of the images.
        zenith: Sky colours at the top.
        horizon: Sky colours at the horizon.
        tint: Factor per channel on everything but the sky.
        brightness: Range of a factor on top of it.
        sight_m: Range of the distance at which a thing has faded to 1/e.
    """

    share: float
    zenith: Palette
    horizon: Palette
    tint: tuple[float, float, float]
    brightness: tuple[float, float]
    sight_m: tuple[float, float]


_CLIMATES: dict[Kind, _Climate] = {
    "clear": _Climate(
        0.35, ((0.25, 0.45, 0.78), (0.42, 0.62, 0.88), (0.55, 0.68, 0.80)), ((0.72, 0.80, 0.90), (0.80, 0.78, 0.70)),
        (1.02, 1.0, 0.97), (0.85, 1.2), (200.0, 500.0),
    ),
    "overcast": _Climate(
        0.25, ((0.62, 0.63, 0.65), (0.48, 0.49, 0.52), (0.78, 0.78, 0.78)), ((0.70, 0.70, 0.71), (0.55, 0.55, 0.56)),
        (0.97, 0.98, 1.0), (0.75, 1.05), (100.0, 300.0),
    ),
    "fog": _Climate(
        0.12, ((0.66, 0.67, 0.68), (0.56, 0.56, 0.55)), ((0.66, 0.66, 0.66), (0.58, 0.57, 0.55)),
        (1.0, 1.0, 1.0), (0.8, 1.05), (18.0, 45.0),
    ),
    "rain": _Climate(
        0.14, ((0.40, 0.43, 0.47), (0.30, 0.32, 0.36)), ((0.50, 0.52, 0.55), (0.38, 0.39, 0.42)),
        (0.88, 0.95, 1.04), (0.6, 0.9), (45.0, 120.0),
    ),
    "dusk": _Climate(
        0.14, ((0.30, 0.28, 0.48), (0.52, 0.34, 0.40), (0.36, 0.40, 0.55)),
        ((0.90, 0.55, 0.28), (0.80, 0.45, 0.35), (0.70, 0.55, 0.45)), (1.05, 0.88, 0.80), (0.5, 0.8), (100.0, 300.0),
    ),
}  # fmt: skip
KINDS = tuple(_CLIMATES)
_FAIR_CLOUDS: Palette = ((0.9, 0.9, 0.9), (0.6, 0.6, 0.62))


@dataclass(frozen=True)
class Weather:
    """The drawn weather of one image.

    Attributes:
        kind: Its kind.
        zenith: Sky colour at the top, RGB in 0..1.
        horizon: Sky colour at the horizon, which distant things fade to.
        cloud: Colour of clouds.
        cover: Part of the sky that they cover, 0..1.
        tint: Factor per channel on everything but the sky.
        sight_m: Distance at which a thing has faded to 1/e.
        shadow: Brightness inside cast shadows; 1 without sun.
        sun_left: Whether the left fronts lie in the sun.
    """

    kind: Kind
    zenith: Color
    horizon: Color
    cloud: Color
    cover: float
    tint: Color
    sight_m: float
    shadow: float
    sun_left: bool


def draw_weather(generator: np.random.Generator) -> Weather:
    """Draws the weather of one image."""
    kind = KINDS[int(generator.choice(len(KINDS), p=[climate.share for climate in _CLIMATES.values()]))]
    climate = _CLIMATES[kind]
    tint = np.asarray(climate.tint) * generator.uniform(*climate.brightness) * generator.uniform(0.94, 1.06, 3)
    return Weather(
        kind=kind,
        zenith=draw_color(generator, climate.zenith),
        horizon=draw_color(generator, climate.horizon),
        cloud=draw_color(generator, _FAIR_CLOUDS if kind == "clear" else climate.horizon),
        cover=generator.uniform(0.1, 0.7),
        tint=tint.astype(np.float32),
        sight_m=generator.uniform(*climate.sight_m),
        shadow=generator.uniform(0.5, 0.75) if kind in ("clear", "dusk") else 1.0,
        sun_left=generator.random() < 0.5,
    )


def apply_weather(
    color: FloatArray, distance_m: FloatArray, sky: FloatArray, weather: Weather, generator: np.random.Generator
) -> FloatArray:
    """Puts light, haze, rain and the camera's noise over a rendered scene.

    Args:
        color: Rendered colours, (H, W, 3) in 0..1; changed in place.
        distance_m: Distance per pixel, (H, W).
        sky: 1 where the sky is, 0 elsewhere, (H, W).
        weather: What to apply.
        generator: Source of the random numbers.

    Returns:
        The image, (H, W, 3), not clipped.
    """
    solid = 1 - sky
    color *= 1 + solid[:, :, None] * (weather.tint - 1)
    seen = np.exp(distance_m * np.float32(-1 / weather.sight_m)) * solid + sky
    if weather.kind == "fog":
        seen -= 0.55 * sky
    color *= seen[:, :, None]
    color += (1 - seen)[:, :, None] * weather.horizon
    height, width = distance_m.shape
    if weather.kind == "rain":
        color += _streaks((height, width), generator)[:, :, None]
    light = generator.uniform(0.9, 1.1)
    color *= np.float32(light)
    # A soft lens first, then the sensor's noise, which no lens softens.
    color = np.asarray(cv2.GaussianBlur(color, (0, 0), generator.uniform(0.35, 0.6) * height / 128), np.float32)
    color += generator.uniform(0.008, 0.022) * generator.standard_normal((height, width, 3), np.float32)
    return color


def _streaks(size: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Bright slanted streaks of rain, shape (H, W)."""
    drops = (generator.random(size, np.float32) > 0.992).astype(np.float32)
    length = max(3, size[0] // 14)
    kernel = np.zeros((length, length), np.float32)
    slant = int(generator.integers(-length // 4, length // 4 + 1))
    cv2.line(kernel, (length // 2 - slant // 2, 0), (length // 2 + slant // 2, length - 1), 1.0)
    return np.asarray(cv2.filter2D(drops, -1, kernel), np.float32) * np.float32(0.11)
