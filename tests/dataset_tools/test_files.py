from pathlib import Path

import pytest

from dataset_tools.files import CLAIM_NAME, FileMark, claim_folder, mark_of, read_made, record_made
from fasterseg.base.files import write_bytes, write_text


def test_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_bytes(tmp_path / "new" / "a.bin", b"12")
    assert (tmp_path / "new" / "a.bin").read_bytes() == b"12"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.bin"]


def test_write_replaces_a_link_and_keeps_its_target(tmp_path: Path) -> None:
    target = tmp_path / "source.png"
    target.write_bytes(b"theirs")
    link = tmp_path / "link.png"
    link.symlink_to(target)
    write_bytes(link, b"ours")
    assert target.read_bytes() == b"theirs"
    assert link.read_bytes() == b"ours"
    assert not link.is_symlink()


def test_claim_is_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert not claim_folder(folder, tool="t", settings={"size": (1, 2)})
    assert claim_folder(folder, tool="t", settings={"size": (1, 2)})


@pytest.mark.parametrize("left", [f".{CLAIM_NAME}.4194305.tmp", CLAIM_NAME])
def test_a_kill_at_the_claim_leaves_a_folder_that_can_be_filled(tmp_path: Path, left: str) -> None:
    (tmp_path / left).touch()
    assert not claim_folder(tmp_path, tool="t", settings={})
    assert [path.name for path in tmp_path.iterdir()] == [CLAIM_NAME]
    assert claim_folder(tmp_path, tool="t", settings={})


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    claim_folder(tmp_path, tool="t", settings={})
    write_text(tmp_path / "images" / "a.png", "a")
    (tmp_path / "images" / ".b.png.4194305.tmp").write_text("half")
    claim_folder(tmp_path, tool="t", settings={})
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a.png"]


def test_an_empty_claim_over_files_names_itself_and_what_to_do(tmp_path: Path) -> None:
    claim_folder(tmp_path, tool="t", settings={})
    (tmp_path / "dataset.yaml").touch()
    (tmp_path / CLAIM_NAME).write_text("")
    with pytest.raises(ValueError, match=rf"{CLAIM_NAME} is damaged .*; restore it, or remove"):
        claim_folder(tmp_path, tool="t", settings={})


def test_claim_refuses_files_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(ValueError, match="not empty and was not made by"):
        claim_folder(tmp_path, tool="t", settings={})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_claim_refuses_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("a file")
    with pytest.raises(ValueError, match="not empty"):
        claim_folder(path, tool="t", settings={})


def test_claim_names_both_settings(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", tool="t", settings={"seed": 1, "size": 4})
    with pytest.raises(ValueError, match="seed is 1 there, 2 here") as caught:
        claim_folder(tmp_path / "out", tool="t", settings={"seed": 2, "size": 4})
    assert "size" not in str(caught.value)
    with pytest.raises(ValueError, match="by `t`, now asked: `u`"):
        claim_folder(tmp_path / "out", tool="u", settings={"seed": 1})
    assert (tmp_path / "out" / CLAIM_NAME).is_file()


def test_record_of_what_was_made(tmp_path: Path) -> None:
    names = ["a b", "two\nlines", "sub/街's"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        write_text(path, "x")
    record_made(tmp_path, paths)
    assert not (tmp_path / "made_files.txt").exists()
    claim_folder(tmp_path / "ours", tool="x", settings={})
    ours = [tmp_path / "ours" / name for name in names]
    for path in ours:
        write_text(path, "x")
    record_made(tmp_path / "ours", [*ours, tmp_path / "a b", tmp_path / "ours" / "none"])
    made = read_made(tmp_path / "ours")
    assert list(made) == names
    assert made["a b"] == mark_of(ours[0])
    write_text(ours[0], "other")
    record_made(tmp_path / "ours", ours, keep_marks=True)
    assert read_made(tmp_path / "ours") == made
    record_made(tmp_path / "ours", ours)
    assert read_made(tmp_path / "ours")["a b"].size_bytes == 5


def test_a_record_of_the_older_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "made_files.txt").write_text("12 345 'a b'\n6 7 $'two\\nlines'\n")
    assert read_made(tmp_path) == {"a b": FileMark(12, 345), "two\nlines": FileMark(6, 7)}
