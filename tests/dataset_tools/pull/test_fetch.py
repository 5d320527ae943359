import functools
import hashlib
import json
import os
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from dataset_tools.files import read_made
from dataset_tools.pull.fetch import pull, read_address

CONTENT = {"images/a b.png": b"one", 'it\'s "x".png': b"two", "街.png": b"three", "two\nlines": b"four"}


def fill(folder: Path) -> Path:
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(path: Path, content: dict[str, bytes] = CONTENT) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def pulled(folder: Path) -> dict[str, bytes]:
    """What came, without our marks."""
    marks = {"made_by.json", "made_files.txt"}
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in marks)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Nothing is printed."""

    (tmp_path / "web").mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("text", "kind", "location"),
    [
        ("https://example.org/a.zip", "download", "https://example.org/a.zip"),
        ("https://example.org/a.git", "repository", "https://example.org/a.git"),
        ("git+https://example.org/a", "repository", "https://example.org/a"),
        ("git+../somewhere", "repository", "../somewhere"),
        ("ssh://git@example.org/a", "repository", "ssh://git@example.org/a"),
        ("git@example.org:group/a", "repository", "git@example.org:group/a"),
    ],
)
def test_addresses(text: str, kind: str, location: str) -> None:
    assert read_address(text) == (kind, location)


def test_addresses_on_disk(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a b.zip")
    assert read_address(str(tmp_path)).kind == "folder"
    assert read_address(str(archive)).kind == "archive"
    assert read_address(archive.as_uri()) == ("archive", str(archive))
    with pytest.raises(FileNotFoundError, match="no such folder or archive"):
        read_address(str(tmp_path / "none.zip"))
    with pytest.raises(ValueError, match="scheme ftp is not supported"):
        read_address("ftp://example.org/a.zip")


def test_passwords_are_not_noted() -> None:
    assert read_address("git+https://me:secret@example.org/a").public == "https://example.org/a"


def test_folder(tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    (source / "link").symlink_to("街.png")
    preview = pull(str(source), tmp_path / "out", dry_run=True)
    assert not (tmp_path / "out").exists()
    result = pull(str(source), tmp_path / "out", progress=False)
    assert (result.files, result.size_bytes) == (preview.files, preview.size_bytes) == (5, 15)
    assert pulled(tmp_path / "out") == {**CONTENT, "link": b"three"}
    assert (tmp_path / "out" / "link").is_symlink()
    assert set(read_made(tmp_path / "out")) == {*CONTENT, "link"}
    assert not pull(str(source), tmp_path / "out", progress=False).fresh


def test_a_cut_off_copy_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    source, real, copied = fill(tmp_path / "source"), shutil.copy2, []

    def copy(original: Path, target: Path) -> object:
        if len(copied) == 2:
            raise KeyboardInterrupt
        copied.append(original)
        return real(original, target)

    monkeypatch.setattr(shutil, "copy2", copy)
    with pytest.raises(KeyboardInterrupt):
        pull(str(source), tmp_path / "out", progress=False)
    first = list(copied)
    monkeypatch.setattr(shutil, "copy2", lambda original, target: (copied.append(original), real(original, target)))
    pull(str(source), tmp_path / "out", progress=False)
    assert pulled(tmp_path / "out") == CONTENT
    assert len(copied) == 4
    assert len(first) == 2


def test_folders_that_overlap_or_lead_outwards(tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    for out in (source / "out", tmp_path, source):
        with pytest.raises(ValueError, match="overlap"):
            pull(str(source), out)
    (source / "secret").symlink_to("/etc")
    with pytest.raises(ValueError, match="'secret' is a link to '/etc'"):
        pull(str(source), tmp_path / "out")
    (source / "secret").unlink()
    os.mkfifo(source / "pipe")
    with pytest.raises(ValueError, match="'pipe' is no file"):
        pull(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_archive_and_checksum(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"has the SHA-256 {digest}, expected 0000"):
        pull(str(archive), tmp_path / "out", sha256="0" * 64)
    assert not (tmp_path / "out").exists()
    result = pull(str(archive), tmp_path / "out", sha256=digest.upper(), progress=False)
    assert result.files == 4
    assert pulled(tmp_path / "out") == CONTENT
    assert json.loads((tmp_path / "out" / "made_by.json").read_text())["settings"]["source"] == str(archive)


def test_a_refused_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"fine": b"x", "../evil": b"x"})
    for dry_run in (True, False):
        with pytest.raises(ValueError, match="is refused, nothing was written"):
            pull(str(archive), tmp_path / "out", dry_run=dry_run, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_folders_of_others_are_not_touched(tmp_path: Path) -> None:
    archive, out = zipped(tmp_path / "a.zip"), fill(tmp_path / "mine")
    with pytest.raises(ValueError, match="is not empty and was not made by"):
        pull(str(archive), out)
    assert pulled(out) == CONTENT


def test_download(tmp_path: Path, web: str) -> None:
    archive = zipped(tmp_path / "web" / "a.zip")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert "is known once it is fetched" in pull(f"{web}/a.zip", tmp_path / "out", dry_run=True).notes[0]
    with pytest.raises(ValueError, match="expected 0000"):
        pull(f"{web}/a.zip", tmp_path / "wrong", sha256="0" * 64, progress=False)
    assert pulled(tmp_path / "wrong") == {}
    result = pull(f"{web}/a.zip", tmp_path / "out", sha256=digest, progress=False)
    assert result.files == 4
    assert pulled(tmp_path / "out") == CONTENT
    assert not (tmp_path / "out" / ".download").exists()
    archive.unlink()
    assert not pull(f"{web}/a.zip", tmp_path / "out", sha256=digest, progress=False).fresh


def test_a_failed_download_is_an_error(tmp_path: Path, web: str) -> None:
    with pytest.raises(ValueError, match="the server answered 404"):
        pull(f"{web}/none.zip", tmp_path / "out", progress=False)
    (tmp_path / "web" / "page").write_text("<html>")
    with pytest.raises(ValueError, match="no zip or tar archive"):
        pull(f"{web}/page", tmp_path / "page", progress=False)


def test_repository(tmp_path: Path) -> None:
    source = fill(tmp_path / "source")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    for arguments in (("init", "--quiet"), ("add", "--all"), (*identity, "commit", "--quiet", "-m", "x")):
        subprocess.run(["git", "-C", source, *arguments], env=environment, check=True)
    result = pull(f"git+{source}", tmp_path / "out", progress=False)
    assert result.files == 4
    assert result.notes[0].startswith("commit ")
    assert pulled(tmp_path / "out") == CONTENT
    assert set(read_made(tmp_path / "out")) == set(CONTENT)


def test_options_that_do_not_belong(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits"):
        pull(str(archive), tmp_path / "out", sha256="abc")
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits, for an archive"):
        pull(str(tmp_path), tmp_path / "out", sha256="0" * 64)
    with pytest.raises(ValueError, match="--ref is for repositories"):
        pull(str(archive), tmp_path / "out", ref="main")
