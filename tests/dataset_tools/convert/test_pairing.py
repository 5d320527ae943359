import unicodedata
from pathlib import Path

import pytest

from dataset_tools.convert.pairing import Pairing, find_files, match, name_splits, pair_folders, standard_split
from dataset_tools.convert.source import IndexMask


def make(path: Path) -> IndexMask:
    return IndexMask(path, {})


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_pairs_are_exact(tmp_path: Path) -> None:
    pairing = Pairing()
    problems = pairing.problems
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
    pairs = match(images, masks, make, pairing)
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
    pairing = Pairing()
    problems = pairing.problems
    touch(tmp_path / "i", "a.png", "a.jpg")
    find_files("image", tmp_path / "i", (".png", ".jpg"), problems)
    (tmp_path / "none").mkdir()
    empty = find_files("image", tmp_path / "none", (".png",), problems)
    match(empty, empty, make, pairing)
    assert "two images of one name" in problems[0]
    assert "no images in" in problems[1]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training", "train"),
        ("valid", "val"),
        ("mine", "mine"),
        ("Train", "train"),
        ("Validation", "val"),
        ("default", "train"),
    ],
)
def test_standard_splits(name: str, split: str) -> None:
    assert standard_split(name) == split


def test_two_folders_of_one_split_keep_their_names() -> None:
    assert name_splits(["Train", "valid", "mine"]) == {"Train": "train", "valid": "val", "mine": "mine"}
    assert name_splits(["train", "default", "val"]) == {"train": "train", "default": "default", "val": "val"}
    assert name_splits(["Val", "validation"]) == {"Val": "Val", "validation": "validation"}


def test_what_has_no_partner_can_be_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.png", "i/b.png", "i/c.png", "m/a.png", "m/x.png")
    pairing = Pairing("skip")
    assert [pair.name for pair in pair_folders(tmp_path / "i", tmp_path / "m", make, pairing)] == ["a"]
    assert not pairing.has_folder(tmp_path / "none", tmp_path / "i", "the masks of")
    pairing.refuse(tmp_path)
    assert pairing.skipped == {
        "images without a mask (--unmatched skip)": 5,
        "masks without an image (--unmatched skip)": 1,
    }
    with pytest.raises(FileNotFoundError, match=r"missing .*none; expected the masks of .*--unmatched skip"):
        Pairing().has_folder(tmp_path / "none", tmp_path / "i", "the masks of")


def test_twins_are_refused_even_where_others_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.png", "i/a.jpg", "m/a.png")
    pairing = Pairing("skip")
    pair_folders(tmp_path / "i", tmp_path / "m", make, pairing)
    with pytest.raises(ValueError, match="two images of one name"):
        pairing.refuse(tmp_path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_may_be_composed_otherwise(tmp_path: Path, forms: tuple[str, str]) -> None:
    image, mask = (unicodedata.normalize(form, "größe/é") for form in forms)  # type: ignore[arg-type]
    touch(tmp_path, f"i/{image}.png", f"m/{mask}.png", "i/e.png", "m/e.png")
    pairing = Pairing()
    pairs = pair_folders(tmp_path / "i", tmp_path / "m", make, pairing)
    assert (len(pairs), pairing.problems) == (2, [])


def test_a_lossy_mask_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "i/a.png", "m/a.jpg")
    pairing = Pairing()
    pair_folders(tmp_path / "i", tmp_path / "m", make, pairing)
    assert "m/a.jpg is a JPEG file, which smears class ids" in pairing.problems[0]


def test_linked_folders_are_entered(tmp_path: Path) -> None:
    touch(tmp_path, "else/b.png", "i/sub/a.png")
    (tmp_path / "i" / "sub" / "link").symlink_to(tmp_path / "else")
    (tmp_path / "else" / "back").symlink_to(tmp_path / "i")
    (tmp_path / "i" / "sub" / "loop").symlink_to(tmp_path / "i")
    found = find_files("image", tmp_path / "i", (".png",), [])
    assert {"sub/a", "sub/link/b"} <= set(found.by_name)
