from pathlib import Path

import pytest

from dataset_tools.paths import count_clutter, find_paths, is_clutter, is_hidden, path_below, without_image_ending


def test_clutter_and_hidden_files() -> None:
    clutter = ["a/._b", "__MACOSX/b", "a/__MACOSX/b", "._a/b"]
    assert [name for name in (*clutter, "a._b", ".a", "a") if is_clutter(name)] == clutter
    assert [name for name in (".a", "._a", "__MACOSX", "a.b") if is_hidden(name)] == [".a", "._a", "__MACOSX"]


def test_paths_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "._a.txt", ".c.txt", "sub/d.txt", "__MACOSX/._b.txt", ".git/e.txt", "x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.name for path in find_paths(tmp_path, "*.txt")] == ["a.txt", "b.txt"]
    assert [path.name for path in find_paths(tmp_path, "*.txt", deep=True)] == ["a.txt", "b.txt", "d.txt"]
    assert find_paths(tmp_path / "none", "*") == []
    assert count_clutter(tmp_path) == 2


def test_backslashes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.png").touch()
    (tmp_path / "c\\d.png").touch()
    assert path_below(tmp_path, "a\\b.png") == tmp_path / "a/b.png"
    assert path_below(tmp_path, "c\\d.png") == tmp_path / "c\\d.png"
    assert path_below(tmp_path, "a/b.png") == tmp_path / "a/b.png"


@pytest.mark.parametrize(
    ("name", "plain"), [("a/b.1.JPG", "a/b.1"), ("scene.0001", "scene.0001"), ("x.tar.png", "x.tar"), (".png", ".png")]
)
def test_endings_of_images(name: str, plain: str) -> None:
    assert without_image_ending(name) == plain
