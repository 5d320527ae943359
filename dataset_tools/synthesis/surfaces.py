"""What the camera sees of a surface: where its points lie in the image, and the colour and distance of every pixel.

X points right, Y up and Z along the street, in metres from the point on the road below the camera. An object of `scene`
has one surface; `render` asks it for a window of pixels and keeps those where the object is visible. Everything is
float32 and vectorised over the window.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.transforms import Window

FloatArray = NDArray[np.float32]
Points = NDArray[np.float64]
Color = NDArray[np.float32]
Palette = tuple[tuple[float, float, float], ...]
Grain = Literal["fine", "medium", "coarse"]
Offset = tuple[float, float]
SKY_DISTANCE_M = 1000.0
_NEAREST_M = 1.0
_NOISE_SEED = 20_240
_NOISE_BLUR_PX: dict[Grain, float] = {"fine": 0.6, "medium": 1.6, "coarse": 6.0}


def draw_color(generator: np.random.Generator, palette: Palette, spread: float = 0.07) -> Color:
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

    def project(self, points_m: Points | Sequence[tuple[float, ...]] | tuple[float, ...]) -> Points:
        """Projects points.

        Args:
            points_m: Shape (..., 3): X, Y, Z. Z below one metre is taken as one metre.

        Returns:
            Shape (..., 2): column and row in pixels, not rounded, possibly outside the image.
        """
        points = np.asarray(points_m, np.float64)
        z = np.maximum(points[..., 2], _NEAREST_M)
        x = points[..., 0] + self.bend * z * z
        column = self.vanishing_px + self.focal_px * x / z
        row = self.horizon_px + self.focal_px * (self.height_m - points[..., 1]) / z
        return np.stack([column, row], axis=-1)

    def line(self, x_m: float | Points, y_m: float, z_m: Points) -> Points:
        """Projects a line at one height: Z of shape (n,) in metres to shape (n, 2) in pixels."""
        return self.project(np.stack([np.broadcast_to(x_m, z_m.shape), np.full(len(z_m), y_m), z_m], axis=1))

    def ground(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Where the pixels of a window lie on the ground.

        Rows above the horizon are taken as just below it.

        Returns:
            X of shape (h, w) and Z of shape (h, 1), in metres.
        """
        below = np.maximum(_rows(window) - np.float32(self.horizon_px), np.float32(0.5))
        z = (np.float32(self.focal_px * self.height_m) / below)[:, None]
        side = (_columns(window) - np.float32(self.vanishing_px)) * z
        return side / np.float32(self.focal_px) - np.float32(self.bend) * z * z, z


def _rows(window: Window) -> FloatArray:
    """Row of each pixel of a window, shape (height,)."""
    return np.arange(window.top, window.top + window.height, dtype=np.float32)


def _columns(window: Window) -> FloatArray:
    """Column of each pixel of a window, shape (width,)."""
    return np.arange(window.left, window.left + window.width, dtype=np.float32)


@lru_cache(maxsize=16)
def noise_tile(grain: Grain, image_size: tuple[int, int]) -> FloatArray:
    """Noise of zero mean and unit deviation, twice as large as the image, the same in every process."""
    height, width = image_size
    generator = np.random.default_rng((_NOISE_SEED, list(_NOISE_BLUR_PX).index(grain)))
    white = generator.standard_normal((2 * height, 2 * width)).astype(np.float32)
    blurred = cv2.GaussianBlur(white, (0, 0), _NOISE_BLUR_PX[grain] * height / 128)
    return np.asarray((blurred - blurred.mean()) / blurred.std(), np.float32)


def draw_offset(generator: np.random.Generator) -> Offset:
    """A random place in the noise, 0..1 of the image, so that objects differ."""
    return generator.random(), generator.random()


def cut_noise(grain: Grain, image_size: tuple[int, int], window: Window, offset: Offset) -> FloatArray:
    """A piece of noise of the size of the window."""
    top, left = int(offset[0] * image_size[0]), int(offset[1] * image_size[1])
    return noise_tile(grain, image_size)[top : top + window.height, left : left + window.width]


class Shading(NamedTuple):
    """Colour of a window, (h, w, 3) in 0..1, and distance in metres, broadcastable to (h, w)."""

    color: FloatArray
    distance_m: FloatArray | float


class Surface(Protocol):
    """What an object is covered with."""

    def shade(self, window: Window) -> Shading:
        """Colours a window."""


class Detail(NamedTuple):
    """A patch of colour inside an object that has no label of its own: a window, a wheel, a shoe."""

    points: Points
    color: Color


@dataclass(frozen=True)
class Solid:
    """A surface at one distance: base colour, noise, shading from top to bottom or around a cylinder, and details."""

    image_size: tuple[int, int]
    color: Color
    distance_m: float
    noise_offset: Offset
    grain: Grain = "fine"
    noise: float = 0.05
    fall_off: float = 0.0
    round: bool = False
    details: Sequence[Detail] = ()

    def shade(self, window: Window) -> Shading:
        """Colours a window; see `Surface`."""
        light = 1 + self.noise * cut_noise(self.grain, self.image_size, window, self.noise_offset)
        if self.fall_off:
            light = light * np.linspace(1 + self.fall_off, 1 - self.fall_off, window.height, dtype=np.float32)[:, None]
        if self.round:
            light = light * (1.15 - 0.5 * np.abs(np.linspace(-0.8, 1, window.width, dtype=np.float32)))
        painted = np.empty((window.height, window.width, 3), np.float32)
        painted[:] = self.color
        for detail in self.details:
            points = np.rint(detail.points - (window.left, window.top)).astype(np.int32)
            cv2.fillPoly(painted, [points], detail.color.tolist())
        return Shading(painted * light[:, :, None], self.distance_m)


@dataclass(frozen=True)
class Sky:
    """A gradient from the zenith to the horizon, with clouds that cover a part of it (0..1)."""

    camera: Camera
    zenith: Color
    horizon: Color
    cloud: Color
    cover: float
    noise_offset: Offset

    def shade(self, window: Window) -> Shading:
        """Colours a window; see `Surface`."""
        size = self.camera.image_size
        height = np.clip(_rows(window) / np.float32(max(self.camera.horizon_px, 1)), 0, 1)[:, None, None]
        color = self.zenith + (self.horizon - self.zenith) * height
        noise = cut_noise("coarse", size, window, self.noise_offset)
        noise = noise + 0.4 * cut_noise("medium", size, window, self.noise_offset[::-1])
        clouds = np.clip((noise + np.float32(4 * self.cover - 2)) * 0.7, 0, 1)[:, :, None]
        return Shading((color + (self.cloud - color) * clouds * 0.85).astype(np.float32), SKY_DISTANCE_M)


class Stripe(NamedTuple):
    """A line along the street: side position, width, dash length and gap in metres (gap 0 is a solid line)."""

    x_m: float
    width_m: float
    dash_m: float
    gap_m: float


@dataclass(frozen=True)
class Ground:
    """Road or pavement, textured in metres so that the texture has perspective.

    Attributes:
        slab_m: Distance of the joints between slabs; 0 for none.
        stripes: Painted lines along the street.
        crossing_m: Distance of a pedestrian crossing; 0 for none.
        curb_m: Side positions of edges that are lighter by `curb_light`.
        paint: Brightness of stripes and crossing.
    """

    camera: Camera
    color: Color
    noise_offset: Offset
    noise: float
    slab_m: float = 0.0
    stripes: Sequence[Stripe] = ()
    crossing_m: float = 0.0
    curb_m: Sequence[float] = ()
    curb_light: float = 1.0
    paint: float = 0.85

    def shade(self, window: Window) -> Shading:
        """Colours a window; see `Surface`."""
        x, z = self.camera.ground(window)
        tile = noise_tile("medium", self.camera.image_size)
        rows = ((z + 50 * self.noise_offset[0]) * 14).astype(np.intp) % tile.shape[0]
        columns = ((x + 50 * (1 + self.noise_offset[1])) * 28).astype(np.intp) % tile.shape[1]
        patches = cut_noise("coarse", self.camera.image_size, window, self.noise_offset)
        light = 1 + self.noise * (tile[rows, columns] + 0.5 * patches)
        if self.slab_m:
            joint = (np.mod(z / self.slab_m, 1) < 0.1) | (np.mod(x / self.slab_m, 1) < 0.1)
            light = light - joint * (0.35 * np.clip(2 - z / 9, 0, 1))
        for edge in self.curb_m:
            light = np.where(np.abs(x - edge) < 0.22, self.curb_light, light)
        marked = np.zeros(x.shape, np.bool_)
        for stripe in self.stripes:
            period = stripe.dash_m + stripe.gap_m
            marked |= (np.abs(x - stripe.x_m) < stripe.width_m / 2) & (np.mod(z, period) < stripe.dash_m)
        if self.crossing_m:
            marked |= (np.abs(z - self.crossing_m) < 1.5) & (np.mod(x, 1.1) < 0.55)
        painted = (light[:, :, None] * self.color).astype(np.float32)
        painted[marked] = self.paint
        return Shading(painted, z)


class WindowGrid(NamedTuple):
    """The windows of a front: distances and sizes in metres, and the part of them that is lit."""

    step_m: tuple[float, float]
    share: tuple[float, float]
    glass: Color
    lamp: Color
    lit: float
    shop: bool


@dataclass(frozen=True)
class Wall:
    """A house front with rows of windows, either along the street or facing the camera.

    Attributes:
        x_m: Side position of a front along the street; for one that faces the camera, where it begins.
        span_m: Distances (near, far) of a front along the street; equal for one that faces the camera.
        light: Brightness by its side to the sun.
    """

    camera: Camera
    color: Color
    x_m: float
    span_m: tuple[float, float]
    grid: WindowGrid
    light: float
    noise_offset: Offset

    def shade(self, window: Window) -> Shading:
        """Colours a window; see `Surface`."""
        z, along = self._along(window)
        up = self.camera.height_m - (_rows(window)[:, None] - self.camera.horizon_px) * z / self.camera.focal_px
        grain = cut_noise("fine", self.camera.image_size, window, self.noise_offset)
        stains = cut_noise("coarse", self.camera.image_size, window, self.noise_offset)
        light = self.light * (1 + 0.05 * grain + 0.06 * stains)
        painted = np.asarray(light[:, :, None] * self.color, np.float32)
        step_x, step_y = self.grid.step_m
        across, level = np.floor(along / step_x), np.floor((up - 0.6) / step_y)
        inside = (along / step_x - across < self.grid.share[0]) & ((up - 0.6) / step_y - level < self.grid.share[1])
        if self.grid.shop:
            inside = np.where(level < 1, along / step_x - across < 0.85, inside)
        # Far away, windows would be smaller than a pixel and turn to noise.
        inside &= (up > 0.5) & (self.camera.focal_px * step_y / z > 5 * self.camera.unit_px)
        code = (across * 37 + level * 101).astype(np.int64) % 97
        lit = (code < self.grid.lit * 97)[:, :, None]
        panes = np.where(lit, self.grid.lamp, self.grid.glass * (0.8 + 0.4 * (code % 7)[:, :, None] / 7))
        np.copyto(painted, panes.astype(np.float32), where=inside[:, :, None])
        return Shading(painted, z)

    def _along(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """Distance and position along the front of every column, each of shape (1, w), in metres."""
        near, far = self.span_m
        columns = _columns(window)
        if near == far:
            along = (columns - self.camera.vanishing_px) * near / self.camera.focal_px - self.x_m
            return np.full((1, window.width), near, np.float32), np.asarray(along, np.float32)[None]
        z = np.geomspace(near, far, 16)
        ends = self.camera.line(self.x_m, 0, z)[:, 0]
        order = np.argsort(ends)
        # One over the distance is linear in the column on a straight street.
        distance = (1 / np.interp(columns, ends[order], (1 / z)[order])).astype(np.float32)[None]
        return distance, distance - np.float32(near)
