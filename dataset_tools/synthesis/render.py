"""A scene to an image and its polygons.

First every polygon is painted with its number, by the function that paints the masks; then each surface colours the
pixels that show its number. Image and mask therefore agree to the pixel.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.polygons import LabeledPolygon, PolygonImage, fill_polygon
from dataset_tools.synthesis.scene import Scene, build_scene
from dataset_tools.synthesis.surfaces import SKY_DISTANCE_M, FloatArray
from dataset_tools.synthesis.weather import apply_weather
from dataset_tools.transforms import Window

# Outlines near the camera reach far outside the image; cut there, they keep their slope inside it.
_OUTSIDE_LIMIT = 8


class RenderedScene(NamedTuple):
    """An image, (H, W, 3) RGB uint8, and the polygons of what is visible in it."""

    image: NDArray[np.uint8]
    polygons: PolygonImage


def render_image(image_size: tuple[int, int], seed: tuple[int, ...]) -> RenderedScene:
    """Draws and renders one street.

    Args:
        image_size: (height, width) in pixels.
        seed: Numbers that decide everything; the same ones give the same bytes.

    Returns:
        The image and its polygons.
    """
    generator = np.random.default_rng(seed)
    scene = build_scene(image_size, generator)
    outlines = [_to_pixels(item.outline, image_size) for item in scene.objects]
    owner = np.full(image_size, -1, np.int32)
    for number, outline in enumerate(outlines):
        fill_polygon(owner, outline, number)
    visible = np.bincount(owner.ravel() + 1, minlength=len(outlines) + 1)[1:] > 0
    color, distance_m = _shade(scene, outlines, owner, visible)
    labels = np.array([item.label for item in scene.objects])
    sky = (labels == "sky").astype(np.float32)[owner]
    on_ground = np.isin(labels, ("road", "sidewalk"))[owner]
    color *= np.where(on_ground, _shadow_map(scene, image_size), np.float32(1))[:, :, None]
    color = apply_weather(color, distance_m, sky, scene.weather, generator)
    image = np.rint(np.clip(color, 0, 1) * 255).astype(np.uint8)
    polygons = tuple(
        LabeledPolygon(item.label, outline)
        for item, outline, seen in zip(scene.objects, outlines, visible, strict=True)
        if seen
    )
    return RenderedScene(image, PolygonImage(*image_size, polygons))


def _to_pixels(outline: NDArray[np.float64], image_size: tuple[int, int]) -> NDArray[np.int32]:
    """An outline in whole pixels, cut at a few image sizes outside the image."""
    limit = _OUTSIDE_LIMIT * max(image_size)
    return np.rint(np.clip(outline, -limit, limit)).astype(np.int32)


def _shade(
    scene: Scene, outlines: list[NDArray[np.int32]], owner: NDArray[np.int32], visible: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Colours the visible part of every object."""
    height, width = owner.shape
    color = np.zeros((height, width, 3), np.float32)
    distance_m = np.full((height, width), SKY_DISTANCE_M, np.float32)
    for number in np.flatnonzero(visible).tolist():
        left, top, box_width, box_height = cv2.boundingRect(outlines[number])
        window = Window(top, left, box_height, box_width).inside((height, width))
        shown = owner[window.place] == number
        shading = scene.objects[number].surface.shade(window)
        np.copyto(color[window.place], shading.color, where=shown[:, :, None])
        np.copyto(distance_m[window.place], shading.distance_m, where=shown)
    return color, distance_m


def _shadow_map(scene: Scene, image_size: tuple[int, int]) -> FloatArray:
    """Brightness of the ground, softened at the edges of shadows."""
    light = np.ones(image_size, np.float32)
    for outline, brightness in scene.shadows:
        cv2.fillPoly(light, [_to_pixels(outline, image_size).reshape(-1, 1, 2)], brightness)
    return np.asarray(cv2.GaussianBlur(light, (0, 0), 1.2 * scene.camera.unit_px), np.float32)
