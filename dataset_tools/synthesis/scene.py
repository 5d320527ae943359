"""The layout of a synthetic street: what stands where.

`build_scene` draws camera, weather, street, fronts and things, and returns the labelled polygons back to front, which
`render` colours and `writer` stores.
"""

from typing import NamedTuple

import numpy as np

from dataset_tools.synthesis import objects
from dataset_tools.synthesis.objects import Place, SceneObject
from dataset_tools.synthesis.surfaces import (
    Camera,
    Ground,
    Palette,
    Points,
    Sky,
    Solid,
    Stripe,
    Wall,
    WindowGrid,
    draw_color,
    draw_offset,
)
from dataset_tools.synthesis.weather import Weather, draw_weather

_HOUSE_GLASS: Palette = ((0.16, 0.19, 0.24), (0.50, 0.58, 0.68), (0.30, 0.32, 0.34))
_HOUSE_LAMP: Palette = ((1.0, 0.85, 0.5), (0.95, 0.92, 0.8))
_FAR_M = 400.0


class Street(NamedTuple):
    """Side positions in metres: the road's edges and the fronts behind the pavements."""

    road: tuple[float, float]
    fronts: tuple[float, float]


class _Foot(NamedTuple):
    """The rectangle on the ground that a thing stands on, in metres."""

    place: Place
    half_width: float
    length: float


class Scene(NamedTuple):
    """Everything of one image.

    Attributes:
        camera: The camera.
        weather: Light and air.
        objects: Labelled polygons, back to front.
        shadows: Outlines on the ground that lie in shadow, with their brightness.
    """

    camera: Camera
    weather: Weather
    objects: tuple[SceneObject, ...]
    shadows: tuple[tuple[Points, float], ...]


def build_scene(image_size: tuple[int, int], generator: np.random.Generator) -> Scene:
    """Draws camera, weather, street, fronts and things of one image.

    Args:
        image_size: (height, width) in pixels; at least 64 rows.
        generator: Decides everything.

    Returns:
        The scene.
    """
    height, width = image_size
    camera = Camera(
        image_size=image_size,
        focal_px=height * generator.uniform(0.95, 1.15),
        horizon_px=height * generator.uniform(0.36, 0.48),
        vanishing_px=width * generator.uniform(0.36, 0.64),
        height_m=generator.uniform(1.45, 1.95),
        bend=generator.uniform(-0.0025, 0.0025),
    )
    weather = draw_weather(generator)
    road = (-generator.uniform(2.8, 5.0), generator.uniform(2.6, 4.6))
    street = Street(road, (road[0] - generator.uniform(2.2, 4.2), road[1] + generator.uniform(2.2, 4.2)))
    backdrop = [*_sky(camera, weather, generator), *_far_end(camera, generator), *_ground(camera, street, generator)]
    fronts = [front for side in (0, 1) for front in _fronts(camera, weather, street, side, generator)]
    things, feet = _things(camera, street, generator)
    shadows = _shadows(camera, weather, street, feet, generator)
    return Scene(camera, weather, (*backdrop, *fronts, *things), tuple(shadows))


def _sky(camera: Camera, weather: Weather, generator: np.random.Generator) -> list[SceneObject]:
    surface = Sky(camera, weather.zenith, weather.horizon, weather.cloud, weather.cover, draw_offset(generator))
    return [SceneObject("sky", _full_width(camera, 0, camera.horizon_px + 2 * camera.unit_px), surface)]


def _full_width(camera: Camera, top: float, bottom: float) -> Points:
    """Outline of a stretch of rows from border to border of the image."""
    width = camera.image_size[1]
    return np.array([(0, top), (width, top), (width, bottom), (0, bottom)], np.float64)


def _far_end(camera: Camera, generator: np.random.Generator) -> list[SceneObject]:
    """What stands at the far end of the street: houses, trees or nothing."""
    kind = generator.random()
    if kind < 0.25:
        return []
    unit, horizon = camera.unit_px, camera.horizon_px
    count = int(generator.integers(5, 10))
    x = np.sort(generator.uniform(0, camera.image_size[1], count))
    x[0], x[-1] = 0, camera.image_size[1]
    tops = horizon - generator.uniform(4, 20, count) * unit
    base = horizon + 2 * unit
    distance = generator.uniform(60, 120)
    if kind < 0.6:
        outline = np.concatenate([[(0, base)], np.stack([x, tops], axis=1), [(camera.image_size[1], base)]])
        leaves = objects.foliage(camera, distance, draw_color(generator, objects.VEGETATION), generator)
        return [SceneObject("vegetation", outline, leaves)]
    houses = []
    for left, right, top in zip(x[:-1], x[1:], tops[1:], strict=True):
        outline = np.array([(left, base), (left, top), (right, top), (right, base)])
        color = draw_color(generator, objects.BUILDING)
        surface = Solid(camera.image_size, color, distance, draw_offset(generator), grain="medium", noise=0.08)
        houses.append(SceneObject("building", outline, surface))
    return houses


def _band(camera: Camera, left_m: float, right_m: float) -> Points:
    """Outline of a strip of ground along the whole street."""
    z = np.geomspace(1.0, _FAR_M, 14)
    return np.concatenate([camera.line(left_m, 0, z), camera.line(right_m, 0, z)[::-1]])


def _ground(camera: Camera, street: Street, generator: np.random.Generator) -> list[SceneObject]:
    """The pavement from border to border, and the road upon it."""
    slab = generator.uniform(0.6, 1.1)
    sidewalk = Ground(
        camera,
        draw_color(generator, objects.SIDEWALK),
        draw_offset(generator),
        noise=generator.uniform(0.05, 0.1),
        slab_m=slab,
        curb_m=street.road,
        curb_light=generator.uniform(1.25, 1.5),
    )
    stripes = [Stripe(generator.uniform(-1.0, 0.4), 0.2, 3.0, 4.0 if generator.random() < 0.7 else 0.0)]
    if generator.random() < 0.4:
        stripes += [Stripe(edge * 0.9, 0.16, 1.0, 0.0) for edge in street.road]
    if generator.random() < 0.25:
        stripes = []
    road = Ground(
        camera,
        draw_color(generator, objects.ROAD),
        draw_offset(generator),
        noise=generator.uniform(0.03, 0.09),
        stripes=tuple(stripes),
        crossing_m=generator.uniform(6, 14) if generator.random() < 0.25 else 0.0,
        paint=generator.uniform(0.6, 0.9),
    )
    everything = _full_width(camera, camera.horizon_px + 1, camera.image_size[0])
    return [SceneObject("sidewalk", everything, sidewalk), SceneObject("road", _band(camera, *street.road), road)]


def _fronts(
    camera: Camera, weather: Weather, street: Street, side: int, generator: np.random.Generator
) -> list[SceneObject]:
    """Houses, hedges and rows of trees along one side, back to front."""
    x = street.fronts[side]
    light = 1.05 if (side == 0) == weather.sun_left else 0.72
    edges = [1.0]
    while edges[-1] < 70:
        edges.append(edges[-1] + generator.uniform(6, 13))
    made: list[SceneObject] = []
    for near, far in reversed(list(zip(edges[:-1], edges[1:], strict=True))):
        if generator.random() < 0.7:
            made += _house(camera, x, (near, far), (light, weather.kind == "dusk"), generator)
        else:
            made += _hedge(camera, x, (near, far), generator)
    return made


def _upright_strip(camera: Camera, x: float, span: tuple[float, float], height_m: float) -> Points:
    """Outline of a wall along the street."""
    z = np.geomspace(*span, 5)
    return np.concatenate([camera.line(x, 0, z), camera.line(x, height_m, z)[::-1]])


def _house(
    camera: Camera, x: float, span: tuple[float, float], lighting: tuple[float, bool], generator: np.random.Generator
) -> list[SceneObject]:
    """A house: the face towards the camera, then the front along the street."""
    light, dusk = lighting
    height, color = generator.uniform(3.5, 10.0), draw_color(generator, objects.BUILDING)
    grid = WindowGrid(
        step_m=(generator.uniform(1.6, 2.8), generator.uniform(2.5, 3.2)),
        share=(generator.uniform(0.4, 0.65), generator.uniform(0.4, 0.65)),
        glass=draw_color(generator, _HOUSE_GLASS),
        lamp=draw_color(generator, _HOUSE_LAMP),
        lit=generator.uniform(0.2, 0.6) if dusk else 0.03,
        shop=generator.random() < 0.4,
    )
    outer = x + np.sign(x) * 12
    face = camera.project([(x, 0, span[0]), (x, height, span[0]), (outer, height, span[0]), (outer, 0, span[0])])
    along = Wall(camera, color, x, span, grid, light, draw_offset(generator))
    towards = Wall(camera, color, x, (span[0], span[0]), grid, 0.88, draw_offset(generator))
    return [
        SceneObject("building", face, towards),
        SceneObject("building", _upright_strip(camera, x, span, height), along),
    ]


def _hedge(camera: Camera, x: float, span: tuple[float, float], generator: np.random.Generator) -> list[SceneObject]:
    """A hedge, often with trees that rise behind it."""
    color, distance = draw_color(generator, objects.VEGETATION), (span[0] + span[1]) / 2
    made = []
    if generator.random() < 0.7:
        for _ in range(2):
            z = generator.uniform(max(span[0], 4.0), max(span[1], 5.0))
            center = camera.project((x + np.sign(x) * 2.5, generator.uniform(2.5, 4.5), z))
            radius = generator.uniform(1.8, 3.2) * camera.focal_px / z
            crown = objects.blob(center, (radius, radius * generator.uniform(0.8, 1.2)), generator)
            made.append(SceneObject("vegetation", crown, objects.foliage(camera, z, color, generator)))
    low = _upright_strip(camera, x, span, generator.uniform(1.2, 2.6))
    low[5:] += generator.uniform(-2, 2, (5, 2)) * camera.unit_px
    return [*made, SceneObject("vegetation", low, objects.foliage(camera, distance, color, generator))]


def _things(camera: Camera, street: Street, generator: np.random.Generator) -> tuple[list[SceneObject], list[_Foot]]:
    """Cars, people, trees and poles, back to front, and their footprints."""
    placed: list[tuple[float, list[SceneObject]]] = []
    feet: list[_Foot] = []
    for place in _car_places(street, generator):
        placed.append((place.z_m, objects.car(camera, place, generator)))
        feet.append(_Foot(place, 1.1, 4.4))
    for _ in range(int(generator.integers(2, 6))):
        side = int(generator.integers(2))
        x = street.road[side] + (street.fronts[side] * 0.95 - street.road[side]) * generator.random()
        if generator.random() < 0.2:
            x = generator.uniform(*street.road)
        place = Place(x, generator.uniform(3.6, 9.0))
        placed.append((place.z_m, objects.person(camera, place, generator)))
        feet.append(_Foot(place, 0.35, 0.35))
    for make, low, high, setback in ((objects.pole, 3, 6, 0.5), (objects.tree, 0, 3, 1.0)):
        for _ in range(int(generator.integers(low, high))):
            edge = street.road[int(generator.integers(2))]
            place = Place(edge + np.sign(edge) * setback, generator.uniform(4.2, 10.5))
            placed.append((place.z_m, make(camera, place, generator)))
            feet.append(_Foot(place, 0.25, 0.3))
    placed.sort(key=lambda item: -item[0])
    return [part for _, parts in placed for part in parts], feet


def _car_places(street: Street, generator: np.random.Generator) -> list[Place]:
    """Parked cars along both edges, and perhaps one that drives; no car stands inside another parked one."""
    places: list[Place] = []
    for edge in street.road:
        z = generator.uniform(4.5, 11)
        while z < 30:
            if generator.random() < 0.55:
                places.append(Place(edge - np.sign(edge) * 0.9, z))
            z += generator.uniform(5.5, 9)
    if generator.random() < 0.6:
        places.append(Place(generator.uniform(-1.0, 0.8), generator.uniform(7, 22)))
    return places


def _shadows(
    camera: Camera, weather: Weather, street: Street, feet: list[_Foot], generator: np.random.Generator
) -> list[tuple[Points, float]]:
    """Shadows under things, and in the sun those of the fronts on one side."""
    shadows = []
    for (x, z), half_width, length in feet:
        left, right = x - half_width, x + half_width
        base = [(left, 0, z - 0.2), (right, 0, z - 0.2), (right, 0, z + length), (left, 0, z + length)]
        shadows.append((camera.project(base), 0.55))
    if weather.shadow < 1:
        # The fronts on the sun's side throw their shadow on the street.
        front = street.fronts[1 if weather.sun_left else 0]
        along = np.array([1.0, *np.sort(generator.uniform(3, 40, 7)), 60.0])
        reach = front - np.sign(front) * generator.uniform(1.5, 6.5, 9)
        outline = np.concatenate([camera.line(reach, 0, along), camera.line(front, 0, along)[::-1]])
        shadows.append((outline, weather.shadow))
    return shadows
