from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dataset_tools.convert.folders import FolderNames, read_folders
from dataset_tools.convert.output import OutputOptions, write_dataset

LABELS = """
labels:
  - {name: road, id: 7, train_id: 0, color: [128, 64, 128]}
  - {name: car, id: 300, train_id: 1, color: [0, 0, 142]}
  - {name: van, id: 9, train_id: 1, color: [0, 0, 143]}
  - {name: void, id: 255, train_id: 255, color: [0, 0, 0]}
"""


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.yaml"
    # Ids of 16-bit masks are above what label definitions hold.
    path.write_text(LABELS.replace("300", "30"))
    return path


def test_ids(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(tmp_path / "s" / "images" / "north side" / "a.jpg", (2, 2))
    grey(tmp_path / "s" / "masks" / "north side" / "a.png", [[7, 30], [9, 255]])
    # `north side` is in both, so it is a split.
    assert convert(read_folders(tmp_path / "s", labels)) == {"north side": {"a": [[0, 1], [1, 255]]}}


def test_sixteen_bit_ids(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(tmp_path / "s" / "images" / "a.jpg", (1, 2))
    (tmp_path / "s" / "masks").mkdir()
    Image.fromarray(np.array([[7, 30]], np.uint16)).save(tmp_path / "s" / "masks" / "a.png")
    assert convert(read_folders(tmp_path / "s", labels)) == {"train": {"a": [[0, 1]]}}


def test_colours_and_suffixes(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], colors: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    for name in ("route_1", "route_10"):
        picture(tmp_path / "s" / "photos" / f"{name}_raw.jpg", (1, 3))
    colors(tmp_path / "s" / "gt" / "route_1_mask.png", [[(128, 64, 128), (0, 0, 142), (0, 0, 0)]])
    colors(tmp_path / "s" / "gt" / "route_10_mask.png", [[(0, 0, 143)] * 3])
    names = FolderNames("photos", "gt", "_raw", "_mask")
    masks = convert(read_folders(tmp_path / "s", labels, names=names, encoding="color"))
    assert masks == {"train": {"route_1": [[0, 1, 255]], "route_10": [[1, 1, 1]]}}


def test_a_part_of_a_name_is_no_match(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], grey: Callable[..., Path]
) -> None:
    picture(tmp_path / "s" / "images" / "route_1.jpg")
    picture(tmp_path / "s" / "images" / "route_2.jpg")
    picture(tmp_path / "s" / "images" / "route_2.png")
    grey(tmp_path / "s" / "masks" / "route_10.png", [[7] * 6] * 4)
    grey(tmp_path / "s" / "masks" / "route_2.png", [[7] * 6] * 4)
    with pytest.raises(ValueError, match="do not match") as caught:
        read_folders(tmp_path / "s", labels)
    for expected in ("no mask for", "route_1.jpg", "no image for", "route_10.png", "two images of one name"):
        assert expected in str(caught.value)


def test_unmatched_files_can_be_left_out(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "s" / "images" / f"{name}.jpg", (1, 1))
    for name in ("b", "c", "d"):
        grey(tmp_path / "s" / "masks" / f"{name}.png", [[9]])
    dataset = read_folders(tmp_path / "s", labels, unmatched="skip")
    assert dataset.skipped == {
        "images without a mask (--unmatched skip)": 1,
        "masks without an image (--unmatched skip)": 2,
    }
    assert convert(dataset) == {"train": {"b": [[1]]}}


def test_unknown_values_and_wrong_encodings(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], grey: Callable[..., Path], colors: Callable[..., Path]
) -> None:
    picture(tmp_path / "s" / "images" / "a.jpg", (1, 2))
    grey(tmp_path / "s" / "masks" / "a.png", [[7, 8]])
    picture(tmp_path / "s" / "images" / "b.jpg", (1, 2))
    colors(tmp_path / "s" / "masks" / "b.png", [[(128, 64, 128), (0, 1, 0)]])
    quiet = OutputOptions(progress=False)
    with pytest.raises(ValueError, match=r"values: 8 \(1 pixels\)(.|\n)*b\.png has the mode RGB, expected one channel"):
        write_dataset(read_folders(tmp_path / "s", labels), tmp_path / "out", quiet)
    with pytest.raises(ValueError, match=r"a\.png has the mode L, expected colours(.|\n)*colours: \(0, 1, 0\)"):
        write_dataset(read_folders(tmp_path / "s", labels, encoding="color"), tmp_path / "out2", quiet)


def test_contradicting_definitions(
    tmp_path: Path, labels: Path, picture: Callable[..., Path], grey: Callable[..., Path]
) -> None:
    picture(tmp_path / "s" / "images" / "a.jpg")
    grey(tmp_path / "s" / "masks" / "a.png", [[7] * 6] * 4)
    labels.write_text(LABELS.replace("300", "7"))
    with pytest.raises(ValueError, match="car: the id 7 already stands for the train id 0, here it is 1"):
        read_folders(tmp_path / "s", labels)
    labels.write_text(LABELS.replace("300", "30").replace("train_id: 0", "train_id: 2"))
    with pytest.raises(ValueError, match="no label has the train id 0"):
        read_folders(tmp_path / "s", labels)
    with pytest.raises(FileNotFoundError, match="--images"):
        read_folders(tmp_path, tmp_path / "labels.yaml")
