from pathlib import Path

import pytest

from dataset_tools.convert.source import IndexMask, find_files, match, standard_split


def make(path: Path) -> IndexMask:
    return IndexMask(path, {})


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_pairs_are_exact(tmp_path: Path) -> None:
    problems: list[str] = []
    touch(
        tmp_path / "i",
        "a/route_1_raw.png",
        "a/route_10_raw.png",
        "x y_raw.JPG",
        ".hidden_raw.png",
        "notes.txt",
        "q.png",
    )
    touch(tmp_path / "m", "a/route_10.png", "x y.png", "a/route_11.png", "._x y.png")
    images = find_files("image", tmp_path / "i", (".png", ".jpg"), problems, suffix="_raw")
    masks = find_files("mask", tmp_path / "m", (".png",), problems)
    pairs = match(images, masks, make, problems)
    assert [(pair.name, pair.image, pair.mask.files) for pair in pairs if pair.mask] == [
        ("a/route_10", tmp_path / "i/a/route_10_raw.png", (tmp_path / "m/a/route_10.png",)),
        ("x y", tmp_path / "i/x y_raw.JPG", (tmp_path / "m/x y.png",)),
    ]
    assert [problem.replace(str(tmp_path), "") for problem in problems] == [
        "no mask for /i/a/route_1_raw.png",
        "no image for /m/a/route_11.png",
    ]


def test_names_keep_their_dots(tmp_path: Path) -> None:
    touch(tmp_path, "v1.2.png", "v1.3.png")
    assert list(find_files("image", tmp_path, (".png",), []).by_name) == ["v1.2", "v1.3"]


def test_twins_and_empty_folders(tmp_path: Path) -> None:
    problems: list[str] = []
    touch(tmp_path / "i", "a.png", "a.jpg")
    find_files("image", tmp_path / "i", (".png", ".jpg"), problems)
    (tmp_path / "none").mkdir()
    empty = find_files("image", tmp_path / "none", (".png",), problems)
    match(empty, empty, make, problems)
    assert "two images of one name" in problems[0]
    assert "no images in" in problems[1]


@pytest.mark.parametrize(("name", "split"), [("training", "train"), ("valid", "val"), ("mine", "mine")])
def test_standard_splits(name: str, split: str) -> None:
    assert standard_split(name) == split
