from pathlib import Path

import numpy as np
import pytest

from dataset_tools.convert.painting import Canvas, PaintOrder, ShapeOptions, plan_shapes
from dataset_tools.convert.regions import Patch
from dataset_tools.convert.source import NamedClass

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
