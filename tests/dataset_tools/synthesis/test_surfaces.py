import numpy as np
import pytest

from dataset_tools.synthesis import objects
from dataset_tools.synthesis.surfaces import (
    Camera,
    Detail,
    Ground,
    Sky,
    Solid,
    Stripe,
    Surface,
    Wall,
    WindowGrid,
    draw_color,
    noise_tile,
)
from dataset_tools.transforms import Window

CAMERA = Camera((128, 256), focal_px=130.0, horizon_px=50.0, vanishing_px=120.0, height_m=1.6, bend=0.002)


def test_far_points_meet_at_the_vanishing_point() -> None:
    straight = Camera((128, 256), 130.0, 50.0, 120.0, 1.6, 0.0)
    assert np.allclose(straight.project(np.array([5.0, 3.0, 1e9])), (120, 50))


def test_size_falls_with_distance() -> None:
    near, far = (CAMERA.project(np.array([[0, 0, z], [0, 2, z]], np.float64)) for z in (5.0, 10.0))
    assert np.isclose(near[0, 1] - near[1, 1], 2 * (far[0, 1] - far[1, 1]))
    assert near[0, 1] > far[0, 1]


def test_behind_the_camera_is_taken_as_near() -> None:
    behind, near = (CAMERA.project(np.array([1.0, 0.0, z])) for z in (-3.0, 1.0))
    assert np.array_equal(behind, near)


def test_ground_inverts_projection() -> None:
    point = np.array([2.0, 0.0, 7.0])
    column, row = CAMERA.project(point)
    top, left = int(row), int(column)
    x, z = CAMERA.ground(Window(top, left, 2, 2))
    assert z[0, 0] > 7.0 > z[1, 0]
    assert x[1, 0] < 2.0 < x[0, 1]
    near = CAMERA.project((float(x[1, 1]), 0.0, float(z[1, 0])))
    assert np.allclose(near, (left + 1, top + 1), atol=1e-3)


@pytest.mark.parametrize(
    "entries", [objects.BUILDING, objects.VEGETATION, objects.ROAD, objects.PAINT, objects.CLOTHES, objects.SIGN]
)
def test_colours_stay_in_range(entries: tuple[tuple[float, float, float], ...]) -> None:
    generator = np.random.default_rng(0)
    drawn = np.stack([draw_color(generator, entries, 0.3) for _ in range(50)])
    assert drawn.shape == (50, 3)
    assert drawn.dtype == np.float32
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.std(axis=0).min() > 0.02


SIZE = (96, 160)
TEXTURED = Camera(SIZE, focal_px=100.0, horizon_px=40.0, vanishing_px=80.0, height_m=1.6, bend=0.001)
GREY = np.full(3, 0.5, np.float32)
GLASS = np.full(3, 0.1, np.float32)
GRID = WindowGrid((2.0, 3.0), (0.5, 0.5), GLASS, GREY, 0.1, True)
SURFACES: tuple[Surface, ...] = (
    Solid(SIZE, GREY, 5.0, (0.1, 0.9), fall_off=0.2, round=True),
    Sky(TEXTURED, GREY, GREY, GREY, 0.5, (0.99, 0.99)),
    Ground(TEXTURED, GREY, (0.3, 0.3), 0.1, slab_m=0.8, curb_m=(-3.0, 3.0), curb_light=1.3),
    Wall(TEXTURED, GREY, -6.0, (1.0, 12.0), GRID, 1.0, (0.5, 0.5)),
    Wall(TEXTURED, GREY, 6.0, (9.0, 9.0), GRID, 1.0, (0.5, 0.5)),
)


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: type(surface).__name__)
@pytest.mark.parametrize("window", [Window(0, 0, 96, 160), Window(50, 30, 1, 1), Window(10, 159, 80, 1)])
def test_every_window_is_filled(surface: Surface, window: Window) -> None:
    color, distance_m = surface.shade(window)
    assert color.shape == (window.height, window.width, 3)
    assert color.dtype == np.float32
    assert np.isfinite(color).all()
    assert np.broadcast_to(distance_m, color.shape[:2]).min() > 0


def test_noise_is_the_same_every_time_and_normal() -> None:
    tile = noise_tile("medium", SIZE)
    noise_tile.cache_clear()
    assert np.array_equal(tile, noise_tile("medium", SIZE))
    assert abs(float(tile.mean())) < 1e-3
    assert abs(float(tile.std()) - 1) < 1e-3


def test_details_are_painted_inside() -> None:
    patch = Detail(np.array([(12.0, 12.0), (16.0, 12.0), (16.0, 16.0), (12.0, 16.0)]), np.array([1, 0, 0], np.float32))
    color = Solid(SIZE, GREY, 5.0, (0.0, 0.0), noise=0.0, details=(patch,)).shade(Window(10, 10, 10, 10)).color
    assert color[4, 4].tolist() == [1, 0, 0]
    assert color[0, 0].tolist() == [0.5, 0.5, 0.5]


def test_stripes_are_painted_on_the_road() -> None:
    road = Ground(TEXTURED, GREY, (0.0, 0.0), 0.0, stripes=(Stripe(0.0, 0.4, 1.0, 0.0),), paint=0.9)
    row = road.shade(Window(70, 0, 1, 160)).color[0, :, 0]
    assert 1 < int((row > 0.8).sum()) < 20
    assert row[0] == pytest.approx(0.5)


def test_a_wall_has_windows() -> None:
    wall = Wall(TEXTURED, GREY, -6.0, (5.0, 40.0), GRID._replace(lit=0.0), 1.0, (0.5, 0.5))
    dark = wall.shade(Window(0, 0, 60, 60)).color[..., 0] < 0.2
    assert 0.1 < dark.mean() < 0.8
