import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.output import OutputOptions, write_dataset
from dataset_tools.convert.panoptic import read_panoptic

# Ids R + 256 G + 65536 B.
CAR, ROAD, FAR = (5, 0, 0), (1, 2, 0), (0, 0, 3)
VOID = (0, 0, 0)
SEGMENTS = [
    {"id": 5, "category_id": 3, "iscrowd": 1},
    {"id": 1 + 256 * 2, "category_id": 149, "iscrowd": 0},
    {"id": 65536 * 3, "category_id": 3, "iscrowd": 0},
]
CATEGORIES = [
    {"id": 149, "name": "road", "isthing": 0, "color": [128, 64, 128]},
    {"id": 3, "name": "car", "isthing": 1, "color": [0, 0, 142]},
]


@pytest.fixture
def root(tmp_path: Path, picture: Callable[..., Path], colors: Callable[..., Path]) -> Path:
    root = tmp_path / "coco"
    picture(root / "val2017" / "a.jpg", (2, 3))
    colors(root / "annotations" / "panoptic_val2017" / "a.png", [[CAR, CAR, FAR], [ROAD, ROAD, VOID]])
    return root


def annotate(root: Path, **change: Any) -> Path:
    annotation = {"image_id": 1, "file_name": "a.png", "segments_info": SEGMENTS}
    image = {"id": 1, "file_name": "a.jpg", "height": 2, "width": 3}
    content = {"images": [image], "annotations": [annotation], "categories": CATEGORIES, **change}
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(content))
    return root


def test_segments(root: Path, convert: Callable[..., Any]) -> None:
    dataset = read_panoptic(annotate(root))
    assert dataset.classes == (("car", "road"), ((0, 0, 142), (128, 64, 128)), (3, 149))
    assert convert(dataset) == {"val": {"a": [[0, 0, 0], [1, 1, 255]]}}


def test_a_png_of_another_size(root: Path, tmp_path: Path, colors: Callable[..., Path]) -> None:
    colors(root / "annotations" / "panoptic_val2017" / "a.png", [[CAR, CAR, FAR]])
    with pytest.raises(ValueError, match=r"a\.png is 1x3, its image is 2x3"):
        write_dataset(read_panoptic(annotate(root)), tmp_path / "out", OutputOptions(progress=False))


def test_crowds_and_ignored_categories(root: Path, tmp_path: Path, convert: Callable[..., Any]) -> None:
    dataset = read_panoptic(annotate(root), crowd="ignore", ignore=["road"])
    assert convert(dataset) == {"val": {"a": [[255, 255, 0], [255, 255, 255]]}}
    done = write_dataset(dataset, tmp_path / "again", OutputOptions(progress=False))
    assert done.skipped == {"crowd segments, ignored (--crowd ignore)": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"annotations": []}, r"a\.jpg has 0 annotations"),
        ({"annotations": [{"image_id": 1, "category_id": 3, "segmentation": []}]}, "is it a panoptic file"),
        (
            {"annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": SEGMENTS[:1]}]},
            r"holds the ids \[513, 196608\]",
        ),
        (
            {"annotations": [{"image_id": 1, "file_name": "b.png", "segments_info": SEGMENTS}]},
            r"mask not found: .*b\.png",
        ),
        ({"categories": CATEGORIES[:1]}, "category_id 3 is none"),
    ],
)
def test_bad_files(root: Path, tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        write_dataset(read_panoptic(annotate(root, **change)), tmp_path / "out", OutputOptions(progress=False))
