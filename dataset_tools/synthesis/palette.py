"""Colours of the synthetic world.

They overlap between the classes on purpose: a building may be as blue as the sky or as green as a hedge, a car and a
coat may have any colour, and road, pavement and poles share their greys. A classifier that sees one pixel at a time
must fail.
"""

import numpy as np
from numpy.typing import NDArray

Color = NDArray[np.float32]

BUILDING = (
    (0.55, 0.30, 0.22), (0.75, 0.68, 0.55), (0.50, 0.50, 0.50), (0.86, 0.86, 0.84), (0.52, 0.64, 0.80),
    (0.26, 0.26, 0.28), (0.80, 0.70, 0.38), (0.42, 0.52, 0.36), (0.40, 0.30, 0.20), (0.70, 0.52, 0.48),
)  # fmt: skip
VEGETATION = (
    (0.20, 0.42, 0.12), (0.40, 0.44, 0.15), (0.62, 0.42, 0.14), (0.40, 0.30, 0.17), (0.12, 0.26, 0.12),
    (0.40, 0.47, 0.36), (0.50, 0.58, 0.32), (0.28, 0.50, 0.20), (0.34, 0.46, 0.16), (0.16, 0.34, 0.10),
)  # fmt: skip
ROAD = ((0.30, 0.30, 0.32), (0.42, 0.42, 0.42), (0.55, 0.54, 0.52), (0.36, 0.33, 0.30), (0.48, 0.50, 0.54))
SIDEWALK = (
    (0.40, 0.40, 0.41), (0.52, 0.52, 0.51), (0.66, 0.64, 0.61), (0.56, 0.45, 0.40), (0.56, 0.58, 0.62),
)  # fmt: skip
PAINT = (
    (0.10, 0.10, 0.11), (0.85, 0.85, 0.86), (0.50, 0.51, 0.53), (0.65, 0.10, 0.10), (0.12, 0.22, 0.55),
    (0.16, 0.36, 0.20), (0.72, 0.62, 0.18), (0.35, 0.25, 0.18), (0.48, 0.60, 0.74), (0.30, 0.31, 0.33),
)  # fmt: skip
CLOTHES = (
    (0.12, 0.12, 0.15), (0.80, 0.80, 0.78), (0.18, 0.26, 0.52), (0.62, 0.16, 0.16), (0.24, 0.40, 0.22),
    (0.55, 0.45, 0.32), (0.50, 0.50, 0.52), (0.75, 0.60, 0.20), (0.45, 0.58, 0.72), (0.40, 0.22, 0.40),
)  # fmt: skip
SKIN = ((0.85, 0.66, 0.54), (0.62, 0.44, 0.32), (0.36, 0.24, 0.18))
POLE = (
    (0.55, 0.56, 0.57), (0.28, 0.29, 0.30), (0.75, 0.75, 0.74), (0.20, 0.30, 0.22), (0.46, 0.48, 0.50),
)  # fmt: skip
SIGN = (
    (0.12, 0.26, 0.62), (0.70, 0.12, 0.12), (0.85, 0.72, 0.15), (0.88, 0.88, 0.86), (0.12, 0.42, 0.24),
    (0.55, 0.56, 0.58),
)  # fmt: skip


def draw_color(
    generator: np.random.Generator, palette: tuple[tuple[float, float, float], ...], spread: float = 0.07
) -> Color:
    """Draws a colour near a random entry of a palette.

    Args:
        generator: Source of the random numbers.
        palette: RGB entries in 0..1.
        spread: Standard deviation of the shift of brightness; channels shift by a third of it.

    Returns:
        RGB in 0..1, shape (3,), float32.
    """
    entry = np.asarray(palette[int(generator.integers(len(palette)))])
    shift = generator.normal(0, spread) + generator.normal(0, spread / 3, 3)
    return np.clip(entry + shift, 0.03, 0.97).astype(np.float32)
