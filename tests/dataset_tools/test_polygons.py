import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dataset_tools.labels import CITYSCAPES_LABELS
from dataset_tools.masks import read_mask
from dataset_tools.polygons import (
    LabeledPolygon,
    PolygonImage,
    load_polygons,
    paint_mask,
    polygons_to_json,
    write_label_ids,
)


def square(label: str, left: float, top: float, side: float, **more: Any) -> dict[str, Any]:
    corners = [[left, top], [left + side, top], [left + side, top + side], [left, top + side]]
    return {"label": label, "polygon": corners, **more}


def write(path: Path, *objects: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"imgHeight": 20, "imgWidth": 30, "objects": list(objects)}))
    return path


def painted(path: Path, encoding: Any = "train-ids") -> np.ndarray:
    return paint_mask(load_polygons(path), CITYSCAPES_LABELS, encoding=encoding)


def test_later_objects_cover_earlier_ones(tmp_path: Path) -> None:
    mask = painted(write(tmp_path / "a_polygons.json", square("road", 0, 0, 10), square("car", 5, 5, 10)))
    assert mask.shape == (20, 30)
    assert (mask[2, 2], mask[7, 7], mask[19, 29]) == (0, 13, 255)
    # The border belongs to the polygon.
    assert (mask[10, 4], mask[15, 15], mask[15, 16]) == (0, 13, 255)


def test_what_is_not_painted(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a_polygons.json",
        square("road", 0, 0, 19),
        square("license plate", 2, 2, 3),
        square("car", 8, 8, 3, deleted=1),
        square("out of roi", 12, 12, 3),
        square("cargroup", 16, 0, 2),
    )
    mask = painted(path)
    assert (mask[3, 3], mask[9, 9], mask[13, 13], mask[1, 17]) == (0, 0, 255, 13)


def test_ids(tmp_path: Path) -> None:
    mask = painted(write(tmp_path / "a_polygons.json", square("road", 0, 0, 5), square("static", 6, 6, 3)), "ids")
    assert (mask[0, 0], mask[7, 7], mask[19, 29]) == (7, 4, 0)


def test_coordinates_are_rounded_and_may_leave_the_image(tmp_path: Path) -> None:
    mask = painted(write(tmp_path / "a_polygons.json", square("car", -5.4, -3.2, 10.6)))
    assert mask[0, 0] == 13
    assert (mask[7, 5], mask[8, 5], mask[7, 6]) == (13, 255, 255)


def test_unknown_labels_are_all_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a_polygons.json", square("unicorn", 0, 0, 3), square("dragon", 0, 0, 3))
    with pytest.raises(ValueError, match="dragon, unicorn"):
        painted(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ('{"imgHeight": 3, "objects": []}', "imgWidth"),
        ('{"imgHeight": 0, "imgWidth": 4, "objects": []}', "0x4 is not positive"),
        ('{"imgHeight": 3, "imgWidth": 3, "objects": {}}', "objects is no list"),
        (
            '{"imgHeight": 3, "imgWidth": 3, "objects": [{"label": "car", "polygon": [[1, 2], [700, 2], [1, 1]]}]}',
            r"objects\[0\] \(car\): the point \(700, 2\) is far outside the image of 3x3",
        ),
        ('{"imgHeight": 3, "imgWidth": 3, "objects": [{"polygon": []}]}', r"objects\[0\]"),
        ('{"imgHeight": 3, "imgWidth": 3, "objects": [{"label": "car", "polygon": [[1, 2, 3]]}]}', r"shape \(1, 3\)"),
        ('{"imgHeight": 3, "imgWidth": 3, "objects": [{"label": "car", "polygon": [["a", 2]]}]}', "not a list"),
    ],
)
def test_malformed(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "a_polygons.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        load_polygons(path)


def test_json_round_trip(tmp_path: Path) -> None:
    image = PolygonImage(4, 5, (LabeledPolygon("car", np.array([[0, 0], [3, 0], [3, 3]], np.int32)),))
    (tmp_path / "a.json").write_text(polygons_to_json(image))
    again = load_polygons(tmp_path / "a.json")
    assert (again.height, again.width) == (4, 5)
    assert np.array_equal(again.polygons[0].points, image.polygons[0].points)


def test_folder(tmp_path: Path) -> None:
    write(tmp_path / "train" / "x" / "x_1_gtFine_polygons.json", square("road", 0, 0, 9))
    write(tmp_path / "val" / "b_polygons.json", square("car", 0, 0, 9))
    assert write_label_ids(tmp_path, CITYSCAPES_LABELS) == (2, 0)
    assert read_mask(tmp_path / "train" / "x" / "x_1_gtFine_labelTrainIds.png")[0, 0] == 0
    write(tmp_path / "val" / "b_polygons.json", square("sky", 0, 0, 9))
    assert write_label_ids(tmp_path, CITYSCAPES_LABELS) == (0, 2)
    assert read_mask(tmp_path / "val" / "b_labelTrainIds.png")[0, 0] == 13
    assert write_label_ids(tmp_path, CITYSCAPES_LABELS, overwrite=True) == (2, 0)
    assert read_mask(tmp_path / "val" / "b_labelTrainIds.png")[0, 0] == 10
    assert write_label_ids(tmp_path, CITYSCAPES_LABELS, encoding="ids") == (2, 0)
    assert read_mask(tmp_path / "val" / "b_labelIds.png")[0, 0] == 23


def test_a_dry_run_paints_and_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "a_polygons.json", square("road", 0, 0, 9))
    assert write_label_ids(tmp_path, CITYSCAPES_LABELS, dry_run=True) == (1, 0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    write(path, square("unicorn", 0, 0, 9))
    with pytest.raises(ValueError, match="unicorn"):
        write_label_ids(tmp_path, CITYSCAPES_LABELS, dry_run=True)


def test_folder_without_polygons(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match=r"_polygons\.json"):
            write_label_ids(root, CITYSCAPES_LABELS)


def test_labels_that_are_numbers_are_their_text(tmp_path: Path) -> None:
    content = '{"imgHeight": "3", "imgWidth": 3, "objects": [{"label": %s, "polygon": [[0, 0], [1, 0], [1, 1]]}]}'
    path = tmp_path / "a_polygons.json"
    path.write_bytes((content % "7").encode("utf-16"))
    assert load_polygons(path).polygons[0].label == "7"
    path.write_text(content % "null")
    with pytest.raises(ValueError, match=r"objects\[0\]: the name of the label is null"):
        load_polygons(path)
