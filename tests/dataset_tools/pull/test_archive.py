import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from dataset_tools.pull.archive import Account, Limits, Member, check_members, is_reserved, unpack

CONTENT = {
    "images/a b.png": b"one",
    'images/it\'s "x".png': b"two" * 1000,
    "größe/街.png": b"three",
    "two\nlines.png": b"four",
}


def make_zip(path: Path, content: dict[str, bytes] = CONTENT, links: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("empty/", "")
        for name, data in content.items():
            archive.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            archive.writestr(info, target)
    return path


def make_tar(path: Path, mode: str, content: dict[str, bytes] = CONTENT, links: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("empty")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    return path


def make(kind: str, path: Path, content: dict[str, bytes] = CONTENT, links: dict[str, str] | None = None) -> Path:
    return make_zip(path, content, links) if kind == "zip" else make_tar(path, f"w:{kind}", content, links)


def files_in(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


KINDS = ("zip", "", "gz", "bz2", "xz")


@pytest.mark.parametrize("kind", KINDS)
def test_unpack(tmp_path: Path, kind: str) -> None:
    archive = make(kind, tmp_path / "x", links={"images/link": "../größe/街.png"})
    preview = unpack(archive, tmp_path / "out", dry_run=True, progress=False)
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", progress=False) == preview
    assert files_in(tmp_path / "out") == CONTENT
    assert (tmp_path / "out" / "empty").is_dir()
    assert (tmp_path / "out" / "images" / "link").read_bytes() == b"three"
    assert preview.size_bytes == sum(map(len, CONTENT.values()))
    assert len(preview.paths) == 5


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_kept(tmp_path: Path, kind: str) -> None:
    archive = make(kind, tmp_path / "x")
    unpack(archive, tmp_path / "out", progress=False)
    kept, cut = tmp_path / "out" / "images" / "a b.png", tmp_path / "out" / "two\nlines.png"
    os.utime(kept, (1, 1))
    cut.write_bytes(b"fo")
    unpack(archive, tmp_path / "out", progress=False)
    assert kept.stat().st_mtime == 1
    assert cut.read_bytes() == b"four"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("content", "links"),
    [
        ({"fine": b"x", "../evil": b"x"}, {}),
        ({"fine": b"x", "/tmp/evil_of_the_toolkit": b"x"}, {}),
        ({"fine": b"x"}, {"link": "../outside"}),
        ({"fine": b"x"}, {"link": "/etc"}),
        ({"link/evil": b"x"}, {"link": "fine"}),
    ],
)
def test_nothing_is_written_outside(
    tmp_path: Path, kind: str, content: dict[str, bytes], links: dict[str, str]
) -> None:
    archive = make(kind, tmp_path / "x", content, links)
    with pytest.raises(ValueError, match="is refused, nothing was written"):
        unpack(archive, tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert not Path("/tmp/evil_of_the_toolkit").exists()


def test_hard_links_and_devices(tmp_path: Path) -> None:
    def with_extra(name: str, kind: bytes, target: str) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w") as archive:
            original = tarfile.TarInfo("original")
            original.size = 4
            archive.addfile(original, io.BytesIO(b"data"))
            extra = tarfile.TarInfo("extra")
            extra.type, extra.linkname = kind, target
            archive.addfile(extra)
        return path

    unpack(with_extra("good", tarfile.LNKTYPE, "original"), tmp_path / "out", progress=False)
    assert files_in(tmp_path / "out") == {"original": b"data", "extra": b"data"}
    for kind, target in ((tarfile.LNKTYPE, "/etc/passwd"), (tarfile.LNKTYPE, "../x"), (tarfile.FIFOTYPE, "")):
        with pytest.raises(ValueError, match="'extra' is no file, folder or link"):
            unpack(with_extra("bad", kind, target), tmp_path / "bad_out", progress=False)
    assert not (tmp_path / "bad_out").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.95])
def test_cut_off_archives(tmp_path: Path, kind: str, part: float) -> None:
    content = {f"{number}.bin": os.urandom(700) for number in range(40)}
    archive = make(kind, tmp_path / "x", content)
    data = archive.read_bytes()
    # of a plain tar the end is 10 KiB blocks of zeros, most of which nobody needs
    length = len(data) if kind else 512 * (1 + 40 * 3)
    archive.write_bytes(data[: int(length * part)])
    with pytest.raises(ValueError, match="x"):
        unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_tar_that_was_cut_between_members(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x", "w", {"a": b"1" * 512, "b": b"2" * 512})
    archive.write_bytes(archive.read_bytes()[: 512 * 3])
    with pytest.raises(ValueError, match="end mark is missing"):
        unpack(archive, tmp_path / "out", progress=False)


def test_damaged_content_leaves_no_half_file(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a.bin": os.urandom(5000)})
    data = bytearray(archive.read_bytes())
    place = data.index(b"a.bin") + 2000
    data[place] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        unpack(archive, tmp_path / "out", progress=False)
    assert files_in(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", ["zip", "gz", "xz"])
def test_bombs_are_bounded(tmp_path: Path, kind: str) -> None:
    archive = make(kind, tmp_path / "x", {f"{number}": bytes(30 * 2**20) for number in range(3)})
    assert archive.stat().st_size < 2**19
    with pytest.raises(ValueError, match="out of proportion"):
        unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", limits=Limits(ratio=10_000), dry_run=True).size_bytes == 90 * 2**20


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x", "w", {"a": b""})
    with tarfile.open(archive, "w") as opened:
        info = tarfile.TarInfo("a")
        info.size = 10
        opened.addfile(info, io.BytesIO(bytes(10)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 9})())
        with pytest.raises(ValueError, match="only 0 MiB are free"):
            unpack(archive, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_encrypted_zip(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", {"a": b"1"})
    data = archive.read_bytes()
    place = data.rindex(b"PK\x01\x02")
    archive.write_bytes(data[: place + 8] + b"\x01" + data[place + 9 :])
    with pytest.raises(ValueError, match="is encrypted"):
        unpack(archive, tmp_path / "out", progress=False)


def test_our_own_marks_in_an_archive_are_left_out(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x", {"made_by.json": b"{}", "./made_files.txt": b"", "a": b"1"})
    assert [path.name for path in unpack(archive, tmp_path / "out", progress=False).paths] == ["a"]


def test_no_archive(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("<html>")
    with pytest.raises(ValueError, match=r"no zip or tar archive(.|\n)*git\+"):
        unpack(tmp_path / "x", tmp_path / "out")


GOOD = (
    Member("./", "folder"),
    Member("a", "folder"),
    Member("a/b c.png", "file", 3),
    Member("a/..hidden", "file", 3),
    Member("a/x...y", "file"),
    Member("a/link", "link", 0, "../other/file"),
    Member("a/folder link", "link", 0, "."),
    Member("a", "folder"),
)


def test_good_members() -> None:
    check_members(GOOD, "x.zip")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Member("../x", "file"), "leads outwards"),
        (Member("a/../../x", "file"), "leads outwards"),
        (Member("a/..", "folder"), "leads outwards"),
        (Member("..\\x", "file"), "leads outwards"),
        (Member("/etc/passwd", "file"), "absolute path"),
        (Member("\\x", "file"), "absolute path"),
        (Member("C:/x", "file"), "absolute path"),
        (Member("c:x", "file"), "absolute path"),
        (Member("", "file"), "empty"),
        (Member("a\0b", "file"), "NUL"),
        (Member("n", "link", 0, "/etc"), "absolute path"),
        (Member("n", "link", 0, ""), "absolute path"),
        (Member("n", "link", 0, ".."), "leads outwards"),
        (Member("q/r/n", "link", 0, "../../../x"), "leads outwards"),
        (Member("q/n", "link", 0, "inner/../../.."), "goes down and up"),
        (Member("fifo", "other"), "no file, folder or link"),
        (Member("a/b c.png", "file"), "stands twice"),
        (Member("a//b c.png", "file"), "stands twice"),
        (Member("a", "file"), "stands twice"),
        (Member("a/link/x", "file"), "lies behind 'a/link'"),
        (Member("a/b c.png/x", "file"), "lies behind 'a/b c.png'"),
    ],
)
def test_bad_members(member: Member, reason: str) -> None:
    for members in ((*GOOD, member), (member, *GOOD)):
        with pytest.raises(ValueError, match=r"x\.zip is refused, nothing was written") as caught:
            check_members(members, "x.zip")
        assert reason in str(caught.value)


def test_a_link_to_a_link_cannot_climb() -> None:
    """`d/e/b` is the root itself, so `d/e/b/../x` would lie above it although the text stays inside."""
    with pytest.raises(ValueError, match="goes down and up"):
        check_members([Member("d/e/b", "link", 0, "../.."), Member("d/e/a", "link", 0, "b/../x")], "x.tar")


def test_problems_are_counted() -> None:
    with pytest.raises(ValueError, match=r"\.\.\. and 5 more"):
        check_members([Member(f"../{number}", "file") for number in range(15)], "x")


def test_reserved_names() -> None:
    assert [is_reserved(name) for name in ("./made_by.json", ".download/x", "a/made_by.json", "made_by.json.png")] == [
        True,
        True,
        False,
        False,
    ]


def test_limits() -> None:
    account = Account("x", 10 * 2**20, Limits(size_bytes=2**40, ratio=10, files=3))
    account.add(100 * 2**20)
    with pytest.raises(ValueError, match=r"more than 100 MiB or 3 files.*--max-ratio"):
        account.add(1)
    small = Account("x", 10, Limits(ratio=10, files=3))
    for _ in range(3):
        small.add(2**20)
    with pytest.raises(ValueError, match="3 files"):
        small.add(0)


def test_backslashes_in_a_zip_are_folders(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"ds\\images\\a.jpg": b"one", "ds\\b/c.txt": b"two", "ds\\empty\\": b""})
    unpack(archive, tmp_path / "out", progress=False)
    assert (tmp_path / "out/ds/images/a.jpg").read_bytes() == b"one"
    assert (tmp_path / "out/ds/b/c.txt").read_bytes() == b"two"
    assert (tmp_path / "out/ds/empty").is_dir()
    with pytest.raises(ValueError, match="leads outwards"):
        unpack(make_zip(tmp_path / "b.zip", {"a\\..\\..\\x": b""}), tmp_path / "b", progress=False)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_clutter_of_macos_stays_in_the_archive(kind: str, tmp_path: Path) -> None:
    content = {"a.txt": b"one", "._a.txt": b"x", "__MACOSX/._a.txt": b"x", "sub/._b/c": b"x", "sub/a._b": b"two"}
    path = make_zip(tmp_path / "a", content) if kind == "zip" else make_tar(tmp_path / "a", "w", content)
    got = unpack(path, tmp_path / "out", progress=False)
    names = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert names == {"a.txt", "sub/a._b"}
    assert (got.left_out, len(got.paths)) == (3, 2)
