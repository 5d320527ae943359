import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fasterseg.base.files import (
    check_writable,
    file_digest,
    has_content,
    keep_previous,
    naming,
    remove_leftovers,
    replacing,
    write_text,
)

# no process has this number
GONE = 2**22 + 1
DAY_S = 24 * 3600


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


def test_what_is_written_is_on_the_disk_before_it_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.replace

    def note_sync(descriptor: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def note_rename(path: Path, target: Path) -> Path:
        done.append(f"rename {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    write_text(tmp_path / "new" / "file.txt", "text")
    assert done == [f"sync {tmp_path.name}", f"sync .file.txt.{os.getpid()}.tmp", "rename file.txt", "sync new"]


def test_an_error_names_the_file_and_not_its_temporary_name(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "file.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.filename == str(tmp_path / "file.txt")
    with pytest.raises(OSError) as caught, replacing(tmp_path / ("x" * 300)):
        pass
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, str(tmp_path / ("x" * 300)))
    with pytest.raises(FileNotFoundError) as missing, naming(tmp_path / "file.txt"):
        (tmp_path / "other.txt").read_text()
    assert missing.value.filename == str(tmp_path / "other.txt")


@contextmanager
def writing(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of writing a file."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom fasterseg.base.files import replacing\n"
        f"with replacing(Path({str(path)!r})):\n    print('writes', flush=True)\n    time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writes\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_what_a_killed_process_left_is_no_content_and_is_removed(tmp_path: Path) -> None:
    with writing(tmp_path / "config.yaml") as process:
        (temporary,) = tmp_path.iterdir()
        assert temporary.name == f".config.yaml.{process.pid}.tmp"
        assert not has_content(tmp_path)
        remove_leftovers(tmp_path)
        assert temporary.exists(), "its owner lives"
    remove_leftovers(tmp_path)
    assert not temporary.exists()


def test_the_lock_tells_the_owner_where_its_number_says_nothing(tmp_path: Path) -> None:
    with writing(tmp_path / "config.yaml"):
        (temporary,) = tmp_path.iterdir()
        # as from another container, whose processes have numbers that are none here, or are those of others
        for number in (GONE, os.getpid()):
            temporary = temporary.rename(tmp_path / f".config.yaml.{number}.tmp")
            remove_leftovers(tmp_path)
            assert temporary.exists()
    remove_leftovers(tmp_path)
    assert not temporary.exists(), "our own number was given again"


def test_a_number_that_was_given_again_protects_a_file_for_a_day(tmp_path: Path) -> None:
    left = tmp_path / f".last.pt.{os.getppid()}.tmp"
    left.write_text("half")
    remove_leftovers(tmp_path)
    assert left.exists()
    old = left.stat().st_mtime - DAY_S - 1
    os.utime(left, (old, old))
    remove_leftovers(tmp_path)
    assert not left.exists()


def test_files_of_others_are_content_and_stay(tmp_path: Path) -> None:
    names = ["thesis.txt", ".hidden", "data.tmp", ".x.tmp", ".a.b.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert has_content(tmp_path) and not has_content(tmp_path, besides=tuple(names))


def test_the_previous_file_is_kept_and_the_present_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, previous = tmp_path / "last.pt", tmp_path / "last.previous.pt"
    keep_previous(path, previous)
    assert not previous.exists()
    for text in ("1", "2"):
        write_text(path, text)
        keep_previous(path, previous)
        assert path.read_text() == previous.read_text() == text
    write_text(path, "3")
    assert previous.read_text() == "2"

    def refuse(*_paths: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    keep_previous(path, previous)
    assert previous.read_text() == "3" and not path.exists()
    assert list(tmp_path.iterdir()) == [previous]


def test_whether_a_place_can_be_written_is_found_out_without_leaving_anything(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "folder" / "student.onnx")
    assert not list(tmp_path.iterdir())
    with pytest.raises(IsADirectoryError) as caught:
        check_writable(tmp_path)
    assert caught.value.filename == str(tmp_path)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "student.onnx", tmp_path / ("x" * 300), Path("/proc/student.onnx")):
        with pytest.raises(OSError) as refused:
            check_writable(path)
        assert refused.value.filename == str(path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
