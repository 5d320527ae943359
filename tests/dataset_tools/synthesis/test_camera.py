import numpy as np

from dataset_tools.synthesis.camera import Camera

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
    x, z = CAMERA.ground(np.array([row], np.float32), np.array([column], np.float32))
    assert np.isclose(z[0, 0], 7.0, atol=1e-3)
    assert np.isclose(x[0, 0], 2.0, atol=1e-3)
