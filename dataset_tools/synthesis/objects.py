"""The things that stand on the street: cars, people, trees, poles and signs; and the colours of the synthetic world.

Each function places one thing at (x, z) metres and returns its outlines in pixels with their surfaces, back to front.

The colours of the classes overlap on purpose: a building may be as blue as the sky or as green as a hedge, a car and a
coat may have any colour, and road, pavement and poles share their greys. A classifier that sees one pixel at a time
must fail.
"""

from typing import NamedTuple

import cv2
import numpy as np

from dataset_tools.synthesis.surfaces import (
    Camera,
    Color,
    Detail,
    Grain,
    Palette,
    Points,
    Solid,
    Surface,
    draw_color,
    draw_offset,
)

BUILDING: Palette = (
    (0.55, 0.30, 0.22), (0.75, 0.68, 0.55), (0.50, 0.50, 0.50), (0.86, 0.86, 0.84), (0.52, 0.64, 0.80),
    (0.26, 0.26, 0.28), (0.80, 0.70, 0.38), (0.42, 0.52, 0.36), (0.40, 0.30, 0.20), (0.70, 0.52, 0.48),
)  # fmt: skip
VEGETATION: Palette = (
    (0.20, 0.42, 0.12), (0.40, 0.44, 0.15), (0.62, 0.42, 0.14), (0.40, 0.30, 0.17), (0.12, 0.26, 0.12),
    (0.40, 0.47, 0.36), (0.50, 0.58, 0.32), (0.28, 0.50, 0.20), (0.34, 0.46, 0.16), (0.16, 0.34, 0.10),
)  # fmt: skip
ROAD: Palette = ((0.30, 0.30, 0.32), (0.42, 0.42, 0.42), (0.55, 0.54, 0.52), (0.36, 0.33, 0.30), (0.48, 0.50, 0.54))
SIDEWALK: Palette = (
    (0.40, 0.40, 0.41), (0.52, 0.52, 0.51), (0.66, 0.64, 0.61), (0.56, 0.45, 0.40), (0.56, 0.58, 0.62),
)  # fmt: skip
PAINT: Palette = (
    (0.10, 0.10, 0.11), (0.85, 0.85, 0.86), (0.50, 0.51, 0.53), (0.65, 0.10, 0.10), (0.12, 0.22, 0.55),
    (0.16, 0.36, 0.20), (0.72, 0.62, 0.18), (0.35, 0.25, 0.18), (0.48, 0.60, 0.74), (0.30, 0.31, 0.33),
)  # fmt: skip
CLOTHES: Palette = (
    (0.12, 0.12, 0.15), (0.80, 0.80, 0.78), (0.18, 0.26, 0.52), (0.62, 0.16, 0.16), (0.24, 0.40, 0.22),
    (0.55, 0.45, 0.32), (0.50, 0.50, 0.52), (0.75, 0.60, 0.20), (0.45, 0.58, 0.72), (0.40, 0.22, 0.40),
)  # fmt: skip
SKIN: Palette = ((0.85, 0.66, 0.54), (0.62, 0.44, 0.32), (0.36, 0.24, 0.18))
POLE: Palette = (
    (0.55, 0.56, 0.57), (0.28, 0.29, 0.30), (0.75, 0.75, 0.74), (0.20, 0.30, 0.22), (0.46, 0.48, 0.50),
)  # fmt: skip
SIGN: Palette = (
    (0.12, 0.26, 0.62), (0.70, 0.12, 0.12), (0.85, 0.72, 0.15), (0.88, 0.88, 0.86), (0.12, 0.42, 0.24),
    (0.55, 0.56, 0.58),
)  # fmt: skip
_CAR_GLASS: Palette = ((0.12, 0.14, 0.17), (0.45, 0.52, 0.60))
_CAR_LIGHT: Palette = ((0.65, 0.10, 0.08), (0.90, 0.88, 0.75))
_BARK: Palette = ((0.30, 0.22, 0.15), (0.42, 0.38, 0.34))
# Corners of a person's outline around the head: X in metres, Y as a part of the height.
_HEAD = ((-0.10, 0.86), (-0.13, 0.93), (-0.07, 1.0), (0.07, 1.0), (0.13, 0.93), (0.10, 0.86))


class SceneObject(NamedTuple):
    """One labelled polygon of a scene: label, outline (corners, 2) in pixels as (column, row), and surface."""

    label: str
    outline: Points
    surface: Surface


class Place(NamedTuple):
    """A point on the ground: X to the right and Z along the street, in metres."""

    x_m: float
    z_m: float


def _foot(camera: Camera, place: Place) -> tuple[Points, float]:
    """Where a thing stands in the image, and how many pixels a metre is there."""
    return camera.project((place.x_m, 0.0, place.z_m)), camera.focal_px / place.z_m


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> list[tuple[float, float, float]]:
    """The eight corners of a box."""
    return [(a, b, c) for a in x for b in y for c in z]


def car(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A car seen from behind or from the front, from its side towards the middle of the image."""
    scale = generator.uniform(0.95, 1.2)
    half, length, roof = 0.95 * scale, generator.uniform(3.6, 4.8), generator.uniform(1.4, 1.75) * scale
    near, belt = place.z_m, 0.62 * roof
    slope, inset = generator.uniform(0.2, 0.9), 0.18 * scale
    left, right = place.x_m - half, place.x_m + half
    body = _box((left, right), (0.0, belt), (near, near + length))
    top = _box((left + inset, right - inset), (roof, roof), (near + slope, near + length - 1.3))
    outline = cv2.convexHull(camera.project(body + top).astype(np.float32)).reshape(-1, 2).astype(np.float64)
    color = draw_color(generator, PAINT)
    glass, light = draw_color(generator, _CAR_GLASS, 0.04), draw_color(generator, _CAR_LIGHT, 0.03)

    def patch(x: tuple[float, float], y: tuple[float, float], patch_color: Color) -> Detail:
        """A rectangle of the end that faces the camera."""
        corners = [(x[0], y[0], near), (x[1], y[0], near), (x[1], y[1], near), (x[0], y[1], near)]
        return Detail(camera.project(corners), patch_color)

    window = [
        (left + inset, belt, near + 0.1), (right - inset, belt, near + 0.1),
        (right - 1.6 * inset, roof * 0.95, near + slope), (left + 1.6 * inset, roof * 0.95, near + slope),
    ]  # fmt: skip
    details = (
        *_car_side(camera, (left, right), (near, near + length), (belt, roof), (color, glass)),
        patch((left, right), (0, 0.28), np.full(3, 0.06, np.float32)),
        patch((left, right), (0.28, belt), color * 0.9),
        Detail(camera.project(window), glass),
        patch((left, left + 0.35), (0.5, 0.75), light),
        patch((right, right - 0.35), (0.5, 0.75), light),
    )
    offset = draw_offset(generator)
    surface = Solid(camera.image_size, color, near, offset, noise=0.04, fall_off=0.12, details=details)
    return [SceneObject("car", outline, surface)]


def _car_side(
    camera: Camera,
    sides: tuple[float, float],
    ends: tuple[float, float],
    heights: tuple[float, float],
    colors: tuple[Color, Color],
) -> list[Detail]:
    """The flank, side window and wheels that face the camera; none for a car straight ahead."""
    if sides[0] <= 0 <= sides[1]:
        return []
    side = sides[0] if sides[0] > 0 else sides[1]
    (near, far), (belt, roof), (color, glass) = ends, heights, colors
    flank = [(side, 0.2, near), (side, 0.2, far), (side, belt, far), (side, belt, near)]
    window = [
        (side, belt, near + 0.5), (side, belt, far - 1.2),
        (side, roof * 0.93, far - 1.7), (side, roof * 0.93, near + 0.9),
    ]  # fmt: skip
    details = [Detail(camera.project(flank), color * 0.75), Detail(camera.project(window), glass * 0.8)]
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    for middle in (near + 0.2 * (far - near), near + 0.8 * (far - near)):
        wheel = np.stack([np.full(10, side), 0.33 + 0.33 * np.sin(angles), middle + 0.33 * np.cos(angles)], axis=1)
        details.append(Detail(camera.project(wheel), np.full(3, 0.07, np.float32)))
    return details


def person(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A person who stands or walks."""
    height, girth, stride = generator.uniform(1.55, 1.95), generator.uniform(1.05, 1.45), generator.uniform(0.05, 0.3)
    shoulder, hip = 0.29 * girth, 0.2 * girth
    shape = np.array(
        [
            *_HEAD, (shoulder, 0.82), (shoulder + 0.06, 0.48),
            (hip + 0.03, 0.48), (hip + stride, 0.0), (hip + stride - 0.2, 0.0), (0.0, 0.36),
            (-hip - stride + 0.2, 0.0), (-hip - stride, 0.0), (-hip - 0.03, 0.48),
            (-shoulder - 0.06, 0.48), (-shoulder, 0.82),
        ]
    )  # fmt: skip
    foot, per_metre = _foot(camera, place)
    pixels = np.stack([shape[:, 0], -shape[:, 1] * height], axis=1) * per_metre + foot
    top, bottom = draw_color(generator, CLOTHES), draw_color(generator, CLOTHES)
    skin, hair = draw_color(generator, SKIN, 0.04), draw_color(generator, SKIN, 0.12) * 0.5
    details = (Detail(pixels[8:15], bottom), Detail(pixels[:6], skin), Detail(pixels[1:5], hair))
    offset = draw_offset(generator)
    surface = Solid(camera.image_size, top, place.z_m, offset, noise=0.05, fall_off=0.08, details=details)
    return [SceneObject("person", pixels, surface)]


def blob(center: Points, radii: tuple[float, float], generator: np.random.Generator, corners: int = 18) -> Points:
    """A ragged ellipse, as crowns of trees and bushes have it."""
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    ragged = 1 + generator.uniform(-0.16, 0.16, corners)
    return center + np.stack([radii[0] * np.cos(angles) * ragged, radii[1] * np.sin(angles) * ragged], axis=1)


def foliage(camera: Camera, distance_m: float, color: Color, generator: np.random.Generator) -> Solid:
    """Leaves: rough texture, coarser when near, lighter at the top."""
    grain: Grain = "medium" if distance_m < 25 else "fine"
    noise = generator.uniform(0.25, 0.38)
    return Solid(camera.image_size, color, distance_m, draw_offset(generator), grain=grain, noise=noise, fall_off=0.25)


def tree(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A street tree; its trunk is vegetation too, as in Cityscapes."""
    (x, z), (_, per_metre) = place, _foot(camera, place)
    crown_bottom, radius = generator.uniform(2.0, 3.0), generator.uniform(1.1, 2.0)
    crown_height = radius * generator.uniform(0.8, 1.4)
    thick = generator.uniform(0.16, 0.26)
    top = crown_bottom + 0.5
    trunk = [(x - thick, 0, z), (x + thick, 0, z), (x + thick * 0.7, top, z), (x - thick * 0.7, top, z)]
    color, offset = draw_color(generator, _BARK, 0.05), draw_offset(generator)
    bark = Solid(camera.image_size, color, z, offset, grain="medium", noise=0.2, round=True)
    center = camera.project((x, crown_bottom + crown_height, z))
    crown = blob(center, (radius * per_metre, crown_height * per_metre), generator)
    leaves = foliage(camera, z, draw_color(generator, VEGETATION), generator)
    return [SceneObject("vegetation", camera.project(trunk), bark), SceneObject("vegetation", crown, leaves)]


def pole(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A lamp post, or a post with a traffic sign. Never thinner than 5 pixels of a 128-row image."""
    (x, bottom), per_metre = _foot(camera, place)
    signed = generator.random() < 0.7
    height = generator.uniform(2.6, 3.4) if signed else generator.uniform(4.5, 6.5)
    half_width = max(0.2 * per_metre, 2.5 * camera.unit_px)
    top = bottom - height * per_metre
    color, offset = draw_color(generator, POLE), draw_offset(generator)
    post = Solid(camera.image_size, color, place.z_m, offset, noise=0.04, round=True)
    left, right = x - half_width, x + half_width
    bar = SceneObject("pole", np.array([(left, bottom), (left, top), (right, top), (right, bottom)]), post)
    if signed:
        return [bar, _sign(camera, place, np.array((x, top)), generator)]
    reach = -np.sign(place.x_m) * generator.uniform(0.9, 1.5) * per_metre
    arm = np.array([(0, 0), (reach, 0), (reach, 2.2 * half_width), (0, 1.2 * half_width)])
    return [bar, SceneObject("pole", arm + (x, top), post)]


def _sign(camera: Camera, place: Place, center: Points, generator: np.random.Generator) -> SceneObject:
    """A plate, round, triangular, square or turned, with a rim and a symbol."""
    radius = generator.uniform(0.55, 0.8) * camera.focal_px / place.z_m
    corners, turn = ((14, 0.0), (3, -np.pi / 2), (4, np.pi / 4), (4, 0.0), (8, np.pi / 8))[int(generator.integers(5))]
    angles = turn + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    plate = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius * (1.2 if corners < 5 else 1.0))
    face, rim, mark = (draw_color(generator, SIGN, 0.04) for _ in range(3))
    bar = np.array([(-0.45, -0.14), (0.45, -0.14), (0.45, 0.14), (-0.45, 0.14)]) * radius
    if generator.random() < 0.5:
        bar = bar[:, ::-1]
    details = (Detail(center + 0.74 * plate, face), Detail(center + bar, mark))
    surface = Solid(camera.image_size, rim, place.z_m, draw_offset(generator), noise=0.03, details=details)
    return SceneObject("traffic sign", center + plate, surface)
