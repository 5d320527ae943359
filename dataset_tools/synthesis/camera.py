"""The camera of a synthetic scene: metres on the street to pixels.

X points right, Y up and Z along the street, in metres from the point on the road below the camera. A bend moves the
street sideways with the square of the distance.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NEAREST_M = 1.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that looks along the street.

    Attributes:
        image_size: (height, width) in pixels.
        focal_px: Focal length.
        horizon_px: Row of the horizon.
        vanishing_px: Column of the vanishing point.
        height_m: Height above the road.
        bend: Sideways shift of the street per squared metre of distance.
    """

    image_size: tuple[int, int]
    focal_px: float
    horizon_px: float
    vanishing_px: float
    height_m: float
    bend: float

    @property
    def unit_px(self) -> float:
        """Size of one pixel of a 128-row image, so that any image size shows the same scene."""
        return self.image_size[0] / 128

    def project(self, points_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Projects points.

        Args:
            points_m: Shape (..., 3): X, Y, Z. Z below one metre is taken as one metre.

        Returns:
            Shape (..., 2): column and row in pixels, not rounded, possibly outside the image.
        """
        z = np.maximum(points_m[..., 2], NEAREST_M)
        x = points_m[..., 0] + self.bend * z * z
        column = self.vanishing_px + self.focal_px * x / z
        row = self.horizon_px + self.focal_px * (self.height_m - points_m[..., 1]) / z
        return np.stack([column, row], axis=-1)

    def ground(self, rows: NDArray[np.float32], columns: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Where pixels lie on the ground.

        Args:
            rows: Pixel rows, shape (h,); those above the horizon are taken as just below it.
            columns: Pixel columns, shape (w,).

        Returns:
            X of shape (h, w) and Z of shape (h, 1), in metres.
        """
        below = np.maximum(rows - np.float32(self.horizon_px), np.float32(0.5))
        z = (np.float32(self.focal_px * self.height_m) / below)[:, None]
        x = (columns - np.float32(self.vanishing_px)) * z / np.float32(self.focal_px) - np.float32(self.bend) * z * z
        return x, z
