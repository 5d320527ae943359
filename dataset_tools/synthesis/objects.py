"""Shapes of the things that stand on the street: cars, people, trees, poles and signs.

Each function places one thing at (x, z) metres and returns its outlines in pixels with their surfaces, back to front.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dataset_tools.synthesis import palette
from dataset_tools.synthesis.camera import Camera
from dataset_tools.synthesis.palette import Color, draw_color
from dataset_tools.synthesis.texture import Detail, Grain, Solid, Surface

Points = NDArray[np.float64]


class SceneObject(NamedTuple):
    """One labelled polygon of a scene: label, outline (corners, 2) in pixels as (column, row), and surface."""

    label: str
    outline: Points
    surface: Surface


class Place(NamedTuple):
    """A point on the ground: X to the right and Z along the street, in metres."""

    x_m: float
    z_m: float


def noise_offset(generator: np.random.Generator) -> tuple[float, float]:
    """A random offset into the noise, 0..1."""
    return generator.random(), generator.random()


def _box(x: tuple[float, float], y: tuple[float, float], z: tuple[float, float]) -> Points:
    """The eight corners of a box, shape (8, 3)."""
    return np.array([(a, b, c) for a in x for b in y for c in z])


def car(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A car seen from behind or from the front, from its side towards the middle of the image."""
    scale = generator.uniform(0.95, 1.2)
    half, length, roof = 0.95 * scale, generator.uniform(3.6, 4.8), generator.uniform(1.4, 1.75) * scale
    near, belt = place.z_m, 0.62 * roof
    slope, inset = generator.uniform(0.2, 0.9), 0.18 * scale
    left, right = place.x_m - half, place.x_m + half
    body = _box((left, right), (0.0, belt), (near, near + length))
    top = _box((left + inset, right - inset), (roof, roof), (near + slope, near + length - 1.3))
    corners = camera.project(np.concatenate([body, top])).astype(np.float32)
    outline = cv2.convexHull(corners).reshape(-1, 2).astype(np.float64)
    color = draw_color(generator, palette.PAINT)
    glass = draw_color(generator, ((0.12, 0.14, 0.17), (0.45, 0.52, 0.60)), 0.04)
    light = draw_color(generator, ((0.65, 0.10, 0.08), (0.90, 0.88, 0.75)), 0.03)
    dark = np.full(3, 0.06, np.float32)

    def patch(corners_m: list[tuple[float, float, float]], patch_color: Color) -> Detail:
        return Detail(camera.project(np.array(corners_m)), patch_color)

    details = _car_side(camera, (left, right), (near, near + length), (belt, roof), (color, glass))
    details += [
        patch([(left, 0, near), (right, 0, near), (right, 0.28, near), (left, 0.28, near)], dark),
        patch([(left, 0.28, near), (right, 0.28, near), (right, belt, near), (left, belt, near)], color * 0.9),
        patch(
            [
                (left + inset, belt, near + 0.1), (right - inset, belt, near + 0.1),
                (right - 1.6 * inset, roof * 0.95, near + slope), (left + 1.6 * inset, roof * 0.95, near + slope),
            ],
            glass,
        ),
    ]  # fmt: skip
    for edge, inner in ((left, left + 0.35), (right, right - 0.35)):
        details.append(patch([(edge, 0.5, near), (inner, 0.5, near), (inner, 0.75, near), (edge, 0.75, near)], light))
    surface = Solid(
        camera.image_size, color, near, noise_offset(generator), noise=0.04, fall_off=0.12, details=tuple(details)
    )
    return [SceneObject("car", outline, surface)]


def _car_side(
    camera: Camera,
    sides: tuple[float, float],
    ends: tuple[float, float],
    heights: tuple[float, float],
    colors: tuple[Color, Color],
) -> list[Detail]:
    """The flank, side window and wheels that face the camera; none for a car straight ahead."""
    if sides[0] > 0:
        side = sides[0]
    elif sides[1] < 0:
        side = sides[1]
    else:
        return []
    (near, far), (belt, roof), (color, glass) = ends, heights, colors
    length = far - near
    flank = np.array([(side, 0.2, near), (side, 0.2, far), (side, belt, far), (side, belt, near)])
    window = np.array(
        [
            (side, belt, near + 0.5),
            (side, belt, far - 1.2),
            (side, roof * 0.93, far - 1.7),
            (side, roof * 0.93, near + 0.9),
        ]
    )
    details = [Detail(camera.project(flank), color * 0.75), Detail(camera.project(window), glass * 0.8)]
    angles = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    for middle in (near + 0.2 * length, near + 0.8 * length):
        wheel = np.stack([np.full(10, side), 0.33 + 0.33 * np.sin(angles), middle + 0.33 * np.cos(angles)], axis=1)
        details.append(Detail(camera.project(wheel), np.full(3, 0.07, np.float32)))
    return details


def person(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A person who stands or walks."""
    height = generator.uniform(1.55, 1.95)
    girth = generator.uniform(1.05, 1.45)
    stride = generator.uniform(0.05, 0.3)
    shoulder, hip = 0.29 * girth, 0.2 * girth
    shape = np.array(
        [
            (-0.10, 0.86), (-0.13, 0.93), (-0.07, 1.0), (0.07, 1.0), (0.13, 0.93), (0.10, 0.86), (shoulder, 0.82),
            (shoulder + 0.06, 0.48), (hip + 0.03, 0.48), (hip + stride, 0.0), (hip + stride - 0.2, 0.0),
            (0.0, 0.36), (-hip - stride + 0.2, 0.0), (-hip - stride, 0.0), (-hip - 0.03, 0.48),
            (-shoulder - 0.06, 0.48), (-shoulder, 0.82),
        ]
    )  # fmt: skip
    foot = camera.project(np.array((place.x_m, 0.0, place.z_m)))
    per_metre = camera.focal_px / place.z_m
    pixels = np.stack([shape[:, 0], -shape[:, 1] * height], axis=1) * per_metre + foot
    top, bottom = draw_color(generator, palette.CLOTHES), draw_color(generator, palette.CLOTHES)
    skin, hair = draw_color(generator, palette.SKIN, 0.04), draw_color(generator, palette.SKIN, 0.12) * 0.5
    legs = pixels[[8, 9, 10, 11, 12, 13, 14]]
    head, cap = pixels[:6], pixels[1:5]
    details = (Detail(legs, bottom), Detail(head, skin), Detail(cap, hair))
    surface = Solid(
        camera.image_size, top, place.z_m, noise_offset(generator), noise=0.05, fall_off=0.08, details=details
    )
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
    return Solid(camera.image_size, color, distance_m, noise_offset(generator), grain=grain, noise=noise, fall_off=0.25)


def tree(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A street tree; its trunk is vegetation too, as in Cityscapes."""
    crown_bottom, radius = generator.uniform(2.0, 3.0), generator.uniform(1.1, 2.0)
    crown_height = radius * generator.uniform(0.8, 1.4)
    thick = generator.uniform(0.16, 0.26)
    trunk_m = np.array(
        [
            (place.x_m - thick, 0, place.z_m), (place.x_m + thick, 0, place.z_m),
            (place.x_m + thick * 0.7, crown_bottom + 0.5, place.z_m),
            (place.x_m - thick * 0.7, crown_bottom + 0.5, place.z_m),
        ]
    )  # fmt: skip
    bark = draw_color(generator, ((0.30, 0.22, 0.15), (0.42, 0.38, 0.34)), 0.05)
    trunk = Solid(camera.image_size, bark, place.z_m, noise_offset(generator), grain="medium", noise=0.2, round=True)
    center = camera.project(np.array((place.x_m, crown_bottom + crown_height, place.z_m)))
    per_metre = camera.focal_px / place.z_m
    crown = blob(center, (radius * per_metre, crown_height * per_metre), generator)
    leaves = foliage(camera, place.z_m, draw_color(generator, palette.VEGETATION), generator)
    return [
        SceneObject("vegetation", camera.project(trunk_m), trunk),
        SceneObject("vegetation", crown, leaves),
    ]


def _upright(center: Points, half_width: float, top: float, bottom: float) -> Points:
    """A vertical bar in pixels."""
    x = float(center[0])
    return np.array([(x - half_width, bottom), (x - half_width, top), (x + half_width, top), (x + half_width, bottom)])


def pole(camera: Camera, place: Place, generator: np.random.Generator) -> list[SceneObject]:
    """A lamp post, or a post with a traffic sign. Never thinner than 5 pixels of a 128-row image."""
    per_metre = camera.focal_px / place.z_m
    signed = generator.random() < 0.7
    height = generator.uniform(2.6, 3.4) if signed else generator.uniform(4.5, 6.5)
    half_width = max(0.2 * per_metre, 2.5 * camera.unit_px)
    foot = camera.project(np.array((place.x_m, 0.0, place.z_m)))
    top = float(foot[1]) - height * per_metre
    post = Solid(
        camera.image_size,
        draw_color(generator, palette.POLE),
        place.z_m,
        noise_offset(generator),
        noise=0.04,
        round=True,
    )
    objects = [SceneObject("pole", _upright(foot, half_width, top, float(foot[1])), post)]
    if signed:
        objects += _sign(camera, place, np.array((foot[0], top)), generator)
    else:
        reach = -np.sign(place.x_m) * generator.uniform(0.9, 1.5) * per_metre
        arm = np.array([(0, 0), (reach, 0), (reach, 2.2 * half_width), (0, 1.2 * half_width)])
        objects.append(SceneObject("pole", arm + (foot[0], top), post))
    return objects


def _sign(camera: Camera, place: Place, center: Points, generator: np.random.Generator) -> list[SceneObject]:
    """A plate, round, triangular, square or turned, with a rim and a symbol."""
    radius = generator.uniform(0.55, 0.8) * camera.focal_px / place.z_m
    corners, turn = ((14, 0.0), (3, -np.pi / 2), (4, np.pi / 4), (4, 0.0), (8, np.pi / 8))[int(generator.integers(5))]
    angles = turn + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    plate = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (radius * (1.2 if corners < 5 else 1.0))
    face, rim = draw_color(generator, palette.SIGN, 0.04), draw_color(generator, palette.SIGN, 0.04)
    mark = draw_color(generator, palette.SIGN, 0.04)
    bar = np.array([(-0.45, -0.14), (0.45, -0.14), (0.45, 0.14), (-0.45, 0.14)]) * radius
    if generator.random() < 0.5:
        bar = bar[:, ::-1]
    details = (Detail(center + 0.74 * plate, face), Detail(center + bar, mark))
    surface = Solid(camera.image_size, rim, place.z_m, noise_offset(generator), noise=0.03, details=details)
    return [SceneObject("traffic sign", center + plate, surface)]
