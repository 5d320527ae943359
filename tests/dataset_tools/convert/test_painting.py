from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pycocotools import mask as mask_api

from dataset_tools.convert.classes import NamedClass
from dataset_tools.convert.painting import (
    Canvas,
    Disc,
    Line,
    Outline,
    PaintOrder,
    Patch,
    Region,
    ShapeOptions,
    lies_outside,
    plan_shapes,
    read_run_lengths,
    trace_polygons,
)

CLASSES = [NamedClass("road", 4), NamedClass("car", 8), NamedClass("glare", 9)]


def bar(start: int, length: int) -> Patch:
    return Patch(np.ones((1, length), bool), start, 0)


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        # car over pixels 0..2, road over 1..4, glare (ignored) over 2..3, road over 3..3
        ("file", [2, 1, 255, 1, 1, 0]),
        ("reversed", [2, 2, 2, 1, 1, 0]),
        ("area", [2, 2, 255, 1, 1, 0]),
        ("class", [2, 2, 255, 255, 1, 0]),
    ],
)
def test_orders(order: PaintOrder, expected: list[int]) -> None:
    plan = plan_shapes(CLASSES, ShapeOptions(order, ignore=("glare",)), Path("s"))
    assert plan.table.names == ("background", "road", "car")
    canvas = Canvas(plan, (1, 6))
    for class_id, region in ((8, bar(0, 3)), (4, bar(1, 4)), (9, bar(2, 2)), (4, bar(3, 1))):
        canvas.add(class_id, region)
    assert canvas.finish().mask.tolist() == [expected]


def test_an_own_background_stays_where_it_is() -> None:
    plan = plan_shapes([*CLASSES, NamedClass("background", 0)], ShapeOptions("file"), Path("s"))
    assert (plan.table.names.index("background"), plan.background) == (3, 3)
    plan = plan_shapes([*CLASSES, NamedClass("background", 0)], ShapeOptions("file", "ignore"), Path("s"))
    assert (len(plan.table.names), plan.background) == (4, 255)


def test_the_background_takes_a_free_id() -> None:
    plan = plan_shapes([NamedClass("car", 0), NamedClass("bus", 2)], ShapeOptions("file"), Path("s"))
    assert plan.table.label_ids == (1, 0, 2)
    assert plan.values == {0: 1, 2: 2}, "no object may have the id of the background"
    assert len(set(plan.table.colors)) == 3


@pytest.mark.parametrize("option", ["skip", "ignore"])
def test_unknown_names(option: str) -> None:
    with pytest.raises(ValueError, match=f"no class is named .*cat.*--{option}"):
        plan_shapes(CLASSES, ShapeOptions("file", **{option: ("cat",)}), Path("s"))


def test_too_many_classes() -> None:
    with pytest.raises(ValueError, match="300 classes are left, expected 1 to 255"):
        plan_shapes([NamedClass(str(n), n) for n in range(300)], ShapeOptions("file", "ignore"), Path("s"))


def painted(region: Region, size: tuple[int, int] = (5, 5)) -> list[list[int]]:
    target = np.zeros(size, np.uint8)
    region.paint(target, 1)
    return target.tolist()


MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1))


@given(MASKS, st.booleans())
def test_run_lengths_are_those_of_cocos_tools(pixels: NDArray[np.uint8], compressed: bool) -> None:
    flat = pixels.T.reshape(-1)
    ends = [*(np.flatnonzero(np.diff(flat)) + 1).tolist(), flat.size]
    lengths = np.diff([0] * (2 if flat[0] else 1) + ends).tolist()
    counts = mask_api.encode(np.asfortranarray(pixels))["counts"].decode() if compressed else lengths
    region = read_run_lengths(counts, (pixels.shape[0], pixels.shape[1]))
    assert painted(region, (pixels.shape[0], pixels.shape[1])) == pixels.tolist()
    assert region.area_px == pixels.sum()


@given(st.lists(st.integers(0, 70000), min_size=1, max_size=12))
def test_run_lengths_of_other_tools_may_hold_empty_runs(lengths: list[int]) -> None:
    size = (1, sum(lengths))
    expected = np.repeat(np.arange(len(lengths)) % 2, lengths)
    text = mask_api.frPyObjects({"size": list(size), "counts": lengths}, *size)["counts"].decode()
    for counts in (lengths, text):
        assert painted(read_run_lengths(counts, size), size) == [expected.tolist()]


@given(st.text(max_size=4) | st.text("013@OPo`", max_size=9))
def test_damaged_run_lengths_are_refused_before_pycocotools_sees_them(text: str) -> None:
    try:
        region = read_run_lengths(text, (4, 6))
    except ValueError:
        return
    assert mask_api.encode(np.asfortranarray(np.array(painted(region, (4, 6)), np.uint8)))["size"] == [4, 6]
    assert sum(map(sum, painted(region, (4, 6)))) == region.area_px


@given(MASKS, st.data())
def test_lost_runs_are_noticed(pixels: NDArray[np.uint8], data: st.DataObject) -> None:
    text = mask_api.encode(np.asfortranarray(pixels))["counts"].decode()
    kept = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(ValueError, match="add up to|ends within|negative"):
        read_run_lengths(text[:kept], (pixels.shape[0], pixels.shape[1]))


def test_polygons_that_share_an_edge_share_no_pixel() -> None:
    left = trace_polygons([np.array([[0, 0], [2.0, 0], [2, 4], [0, 4]])], (4, 4))
    right = trace_polygons([np.array([[2.0, 0], [4, 0], [4, 4], [2, 4]])], (4, 4))
    assert painted(left, (4, 4)) == [[1, 1, 0, 0]] * 4
    assert painted(right, (4, 4)) == [[0, 0, 1, 1]] * 4


POLYGONS = arrays(np.float64, st.tuples(st.integers(3, 7), st.just(2)), elements=st.floats(-10, 50))


@given(st.lists(POLYGONS, min_size=1, max_size=3))
def test_objects_cover_all_of_their_outlines(polygons: list[NDArray[np.float64]]) -> None:
    size = (32, 40)
    alone = [mask_api.decode(mask_api.frPyObjects([points.reshape(-1).tolist()], *size))[..., 0] for points in polygons]
    assert painted(trace_polygons(polygons, size), size) == np.max(alone, axis=0).tolist()


@given(arrays(np.float64, (3, 2), elements=st.integers(-40, 200).map(lambda quarter: quarter / 4)))
def test_triangles_differ_from_geometry_at_their_edges_alone(points: NDArray[np.float64]) -> None:
    size = (32, 40)
    outline = points.astype(np.float32)
    traced, filled = trace_polygons([points], size), Outline(np.rint(points).astype(np.int32))
    masks = np.array(painted(traced, size)), np.array(painted(filled, size))
    for y, x in np.ndindex(size):
        # COCO's pixel reaches from x to x + 1, the outline's corners are centres of pixels.
        for mask, center in zip(masks, ((x + 0.5, y + 0.5), (float(x), float(y))), strict=True):
            distance = cv2.pointPolygonTest(outline, center, True)
            if abs(distance) > 2:
                assert mask[y, x] == (distance > 0), (x, y, distance)


@given(st.integers(0, 12), st.tuples(st.integers(-5, 40), st.integers(-5, 40)))
def test_discs_are_symmetric_and_no_pixel_off(radius: int, center: tuple[int, int]) -> None:
    mask = np.array(painted(Disc((float(center[0]), float(center[1])), radius), (60, 60)))
    y, x = np.mgrid[:60, :60]
    distance = np.hypot(x - center[0], y - center[1])
    assert mask[distance <= radius].all() if radius else mask.sum() == (min(center) >= 0)
    assert not mask[distance > radius + 1].any()
    if min(center) >= radius:
        box = mask[center[1] - radius : center[1] + radius + 1, center[0] - radius : center[0] + radius + 1]
        assert (box == box[::-1]).all() and (box == box[:, ::-1]).all() and (box == box.T).all()


def test_discs_and_lines_are_clipped() -> None:
    assert painted(Disc((0, 0), 1), (3, 3)) == [[1, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert painted(Disc((50, 50), 3), (3, 3)) == [[0] * 3] * 3
    assert painted(Line(np.array([[-9.0, 1], [9, 1]]), 1), (3, 3)) == [[0] * 3, [1] * 3, [0] * 3]


def test_patches_are_clipped() -> None:
    patch = Patch(np.ones((2, 2), bool), -1, 2)
    assert painted(patch, (3, 3)) == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert painted(Patch(np.ones((2, 2), bool), 9, 9), (3, 3)) == [[0] * 3] * 3


def test_outside() -> None:
    assert lies_outside(np.array([[6.0, 0], [7, 3]]), (4, 6))
    assert lies_outside(np.array([[0.0, -2], [3, -0.5]]), (4, 6))
    assert not lies_outside(np.array([[-5.0, 0], [0, 3]]), (4, 6))
