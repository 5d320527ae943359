import hashlib
from pathlib import Path

import pytest

from fasterseg.base.files import file_digest, replacing, write_text


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "half"
    assert list(path.parent.iterdir()) == [path]


def test_a_cut_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half of the new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_text_is_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "größe")
    assert (tmp_path / "a").read_bytes() == "größe".encode()


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    (tmp_path / "c").write_bytes(b"Same")
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") == hashlib.sha256(b"same").hexdigest()[:16]
    assert file_digest(tmp_path / "c") != file_digest(tmp_path / "a")
