import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.cityscapes import read_cityscapes
from dataset_tools.convert.output import OutputOptions, write_dataset

FRAME = "aachen_000000_000019"
POLYGONS = {
    "imgHeight": 4,
    "imgWidth": 6,
    "objects": [
        {"label": "road", "polygon": [[0, 2], [5, 2], [5, 3], [0, 3]]},
        {"label": "cargroup", "polygon": [[1, 1], [2, 1], [2, 2], [1, 2]]},
        {"label": "sky", "polygon": [[0, 0], [5, 0], [5, 0], [0, 0]], "deleted": 1},
        {"label": "license plate", "polygon": [[1, 2], [2, 2], [2, 2], [1, 2]]},
        {"label": "static", "polygon": [[5, 3], [5, 3], [5, 3]]},
    ],
}
ROAD_AND_CAR = [
    [255, 255, 255, 255, 255, 255],
    [255, 13, 13, 255, 255, 255],
    [0, 13, 13, 0, 0, 0],
    [0, 0, 0, 0, 0, 255],
]


@pytest.fixture
def source(tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path]) -> Path:
    root = tmp_path / "cityscapes"
    for split in ("train", "test"):
        picture(root / "leftImg8bit" / split / "aachen" / f"{FRAME}_leftImg8bit.png")
        stem = root / "gtFine" / split / "aachen" / f"{FRAME}_gtFine"
        ids = grey(Path(f"{stem}_labelIds.png"), [[0] * 6, [0, 26, 26, 0, 0, 0], [7, 26, 26, 7, 7, 7], [7] * 5 + [4]])
        assert ids.is_file()
        grey(Path(f"{stem}_labelTrainIds.png"), ROAD_AND_CAR)
        Path(f"{stem}_polygons.json").write_text(json.dumps(POLYGONS))
    return root


@pytest.mark.parametrize("masks_from", ["polygons", "labelIds", "labelTrainIds"])
def test_the_three_forms_give_one_mask(source: Path, convert: Callable[..., Any], masks_from: Any) -> None:
    masks = convert(read_cityscapes(source, masks_from=masks_from))
    assert masks["train"] == {f"aachen/{FRAME}": ROAD_AND_CAR}
    # The masks of the test split are dummies.
    assert masks["test"] == {f"aachen/{FRAME}": None}


def test_classes_and_what_is_left_out(source: Path, tmp_path: Path) -> None:
    dataset = read_cityscapes(source, masks_from="polygons")
    assert dataset.classes.names[13] == "car"
    assert dataset.classes.label_ids is not None and dataset.classes.label_ids[13] == 26
    done = write_dataset(dataset, tmp_path / "out", OutputOptions(progress=False))
    assert done.skipped == {
        "objects marked as deleted": 1,
        "objects of the label 'license plate', whose id is below 0": 1,
        "masks of test: dummies, the labels are not public": 1,
    }


def test_own_labels_from_csv(source: Path, tmp_path: Path, convert: Callable[..., Any]) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "name,id,trainId,category,catId,hasInstances,ignoreInEval,color_r,color_g,color_b\n"
        "unlabeled,0,255,void,0,False,True,0,0,0\n"
        "road,1,1,flat,1,False,False,128,64,128\n"
        "car,2,0,vehicle,2,True,False,0,0,142\n"
        "sky,3,255,void,0,False,True,0,0,0\n"
        "license plate,-1,-1,void,0,False,True,0,0,0\n"
        "static,4,0,void,0,False,False,9,9,9\n"
    )
    dataset = read_cityscapes(source, masks_from="polygons", labels=labels)
    assert dataset.classes.names == ("car", "road")
    expected = [[{13: 0, 0: 1}.get(value, value) for value in row] for row in ROAD_AND_CAR]
    expected[3][5] = 0
    assert convert(dataset) == {split: {f"aachen/{FRAME}": expected} for split in ("train", "test")}


def test_missing_files(source: Path, tmp_path: Path) -> None:
    (source / "gtFine" / "train" / "aachen" / f"{FRAME}_gtFine_labelIds.png").unlink()
    with pytest.raises(ValueError, match=f"no mask for .*{FRAME}_leftImg8bit"):
        read_cityscapes(source)
    with pytest.raises(FileNotFoundError, match="gtCoarse"):
        read_cityscapes(source, annotations="gtCoarse")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (json.dumps(POLYGONS)[:-30], "is not valid JSON"),
        (json.dumps({**POLYGONS, "imgWidth": 7}), "is 4x7, its image is 4x6"),
        (json.dumps(POLYGONS).replace('"road"', '"unicorn"'), "no definition for the labels unicorn"),
        (json.dumps(POLYGONS).replace("[5, 2]", "[5000, 2]"), r"\(5000, 2\) is far outside the image of 4x6"),
        (json.dumps(POLYGONS).replace("[5, 2]", "[NaN, 2]"), "far outside"),
        (json.dumps({**POLYGONS, "objects": None}), "objects is no list"),
    ],
)
def test_bad_polygon_files(source: Path, tmp_path: Path, text: str, message: str) -> None:
    (source / "gtFine" / "train" / "aachen" / f"{FRAME}_gtFine_polygons.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        write_dataset(read_cityscapes(source, masks_from="polygons"), tmp_path / "out", OutputOptions(progress=False))
