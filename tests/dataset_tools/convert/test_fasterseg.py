import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.fasterseg import read_fasterseg
from dataset_tools.convert.output import OutputOptions, write_dataset

LABELS = (
    "name,id,trainId,category,catId,hasInstances,ignoreInEval,color_r,color_g,color_b\r\n"
    "unlabeled,0,255,void,0,False,True,0,0,0\r\n"
    "floor,1,0,flat,1,False,False,10,20,30\r\n"
    '"rack, full",2,1,object,2,True,False,40,50,60\r\n'
)
RACK = [[255] * 6, [255, 1, 1, 255, 255, 255], [0, 1, 1, 0, 0, 0], [0] * 6]


def polygons(first: str = "floor") -> str:
    floor = {"label": first, "polygon": [[0, 2], [5, 2], [5, 3], [0, 3]]}
    rack = {"label": "rack, full", "polygon": [[1, 1], [2, 1], [2, 2], [1, 2]]}
    return json.dumps({"imgHeight": 4, "imgWidth": 6, "objects": [floor, rack]})


@pytest.fixture
def root(tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path]) -> Path:
    root = tmp_path / "route"
    for split, names in (("train", ("route_1", "route_10")), ("val", ("it's 2",))):
        for name in names:
            picture(root / "original_images" / split / f"{name}_raw.png")
            grey(root / "annotations" / split / f"{name}_labelTrainIds.png", RACK)
            (root / "annotations" / split / f"{name}_polygons.json").write_text(polygons())
    (root / "labels.csv").write_bytes(LABELS.encode("utf-8-sig"))
    return root


def line(split: str, image: str, mask: str, separator: str = "\t") -> str:
    return f"original_images/{split}/{image}_raw.png{separator}annotations/{split}/{mask}_labelTrainIds.png\n"


@pytest.mark.parametrize("masks_from", ["polygons", "labelTrainIds"])
def test_folders(root: Path, convert: Callable[..., Any], masks_from: Any) -> None:
    dataset = read_fasterseg(root, masks_from=masks_from)
    assert dataset.classes == (("floor", "rack, full"), ((10, 20, 30), (40, 50, 60)), (1, 2))
    assert convert(dataset) == {"train": {"route_1": RACK, "route_10": RACK}, "val": {"it's 2": RACK}}


def test_mapping_lists_are_the_splits(root: Path, convert: Callable[..., Any]) -> None:
    (root / "train_mapping_list.txt").write_text(line("train", "route_10", "route_10", " "))
    (root / "val_mapping_list.txt").write_text(line("val", "it's 2", "it's 2") + line("train", "route_1", "route_1"))
    (root / "train_val_mapping_list.txt").write_text(line("train", "route_10", "route_10"))
    dataset = read_fasterseg(root)
    assert dataset.skipped == {"list train_val: train and val are converted": 1}
    assert convert(dataset) == {"train": {"route_10": RACK}, "val": {"it's 2": RACK, "route_1": RACK}}
    assert set(read_fasterseg(root, lists=False).splits) == {"train", "val"}


def test_lists_that_join_two_names_are_refused(root: Path) -> None:
    wrong = line("train", "route_1", "route_10") + line("train", "gone", "gone") + "one\n" + "'\n"
    (root / "train_mapping_list.txt").write_text(wrong)
    with pytest.raises(ValueError, match="mapping lists are wrong") as caught:
        read_fasterseg(root)
    for expected in (
        ":1: joins the image route_1 with the annotation of route_10",
        ":2: not found: ",
        ":3: 'one', expected `image mask`",
        ":4: ",
    ):
        assert expected in str(caught.value)


def test_a_missing_annotation_is_named(root: Path) -> None:
    (root / "annotations" / "train" / "route_1_polygons.json").unlink()
    with pytest.raises(ValueError, match=r"no mask for .*route_1_raw\.png") as caught:
        read_fasterseg(root)
    assert "route_10" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no .*_mapping_list"):
        read_fasterseg(root, lists=True)


def test_unknown_labels_are_named(root: Path, tmp_path: Path) -> None:
    (root / "annotations" / "val" / "it's 2_polygons.json").write_text(polygons("flor"))
    with pytest.raises(ValueError, match="no definition for the labels flor"):
        write_dataset(read_fasterseg(root), tmp_path / "out", OutputOptions(progress=False))


def test_label_files(root: Path, tmp_path: Path) -> None:
    (root / "more.csv").write_text("a,b\n")
    with pytest.raises(FileNotFoundError, match="expected one CSV file"):
        read_fasterseg(root)
    assert read_fasterseg(root, labels=root / "labels.csv").classes.names[0] == "floor"
    with pytest.raises(FileNotFoundError, match="custom layout"):
        read_fasterseg(tmp_path)
