"""Unpacking zip and tar archives: everything is checked first, then each file is written whole or not at all.

What an earlier, cut-off run has unpacked is kept.
"""

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO, NamedTuple, Protocol

from rich.progress import track

from dataset_tools.pull.members import DEFAULT_LIMITS, Account, Limits, Member, check_members, is_reserved
from fasterseg.base.files import replacing

_LONGEST_TARGET = 4096


class Archive(Protocol):
    """What both kinds of archive can do."""

    def members(self) -> Iterator[Member]:
        """All entries in order."""

    def open(self, member: Member) -> IO[bytes]:
        """The content of a file."""


class _ZipArchive:
    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._infos: dict[str, zipfile.ZipInfo] = {}

    def members(self) -> Iterator[Member]:
        """All entries in order; see `Archive`."""
        for info in self._archive.infolist():
            if info.flag_bits & 1:
                raise ValueError(f"{self._archive.filename} is encrypted ({info.filename}); unpack it yourself")
            self._infos[info.filename] = info
            mode = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                yield Member(info.filename, "folder")
            elif mode == stat.S_IFLNK:
                target = self._archive.read(info) if info.file_size <= _LONGEST_TARGET else b""
                yield Member(info.filename, "link", 0, target.decode("utf-8", "surrogateescape"))
            else:
                yield Member(info.filename, "file" if mode in (0, stat.S_IFREG) else "other", info.file_size)

    def open(self, member: Member) -> IO[bytes]:
        """The content of a file; see `Archive`."""
        return self._archive.open(self._infos[member.name])


class _TarArchive:
    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._infos: dict[str, tarfile.TarInfo] = {}

    def members(self) -> Iterator[Member]:
        """All entries in order; see `Archive`. A hard link counts as the file that it names."""
        for info in self._archive:
            self._infos.setdefault(info.name, info)
            if info.isdir():
                yield Member(info.name, "folder")
            elif info.issym():
                yield Member(info.name, "link", 0, info.linkname)
            elif info.islnk():
                original = self._infos.get(info.linkname)
                is_file = original is not None and original.isfile()
                yield Member(info.name, "file" if is_file else "other", original.size if original else 0)
            else:
                yield Member(info.name, "file" if info.isfile() else "other", info.size)
        self._check_end()

    def _check_end(self) -> None:
        """Refuses an archive without its end mark: `tarfile` takes one that was cut between members for whole."""
        file = self._archive.fileobj
        assert file is not None, "a TarFile that reads has a file"
        file.seek(self._archive.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise ValueError(f"{self._archive.name!r} is cut off or damaged: the end mark is missing; get it again")

    def open(self, member: Member) -> IO[bytes]:
        """The content of a file; see `Archive`."""
        content = self._archive.extractfile(self._infos[member.name])
        assert content is not None, "only files are opened"
        return content


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Opens a zip or tar archive, told by its content; a damaged one is a `ValueError`.

    Args:
        path: The file.

    Yields:
        The archive.

    Raises:
        ValueError: It is neither, or damaged, cut off or encrypted.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield _ZipArchive(archive)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as opened:
                yield _TarArchive(opened)
        else:
            raise ValueError(
                f"{path} is no zip or tar archive, or its beginning or end is missing; for a git repository put git+ "
                "in front of the address"
            )
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, LZMAError, EOFError, NotImplementedError) as error:
        raise ValueError(f"{path} is damaged, cut off or of an unknown kind ({error}); get it again") from error


class Unpacked(NamedTuple):
    """What an archive holds, or what was unpacked: paths of files and links, and the bytes of all files."""

    paths: tuple[Path, ...]
    size_bytes: int


def unpack(
    path: Path, out: Path, *, limits: Limits = DEFAULT_LIMITS, dry_run: bool = False, progress: bool = True
) -> Unpacked:
    """Unpacks an archive after checking all of its members.

    Args:
        path: A zip or tar archive, compressed or not.
        out: Where to; files that exist with the right size are kept.
        limits: How much the archive may hold.
        dry_run: Only check.
        progress: Show a progress bar.

    Returns:
        What it holds, and now lies in `out`.

    Raises:
        ValueError: The archive is damaged or holds too much, the disk is too small, or a member would leave the folder;
            nothing was written then.
    """
    with open_archive(path) as archive:
        account = Account(path, path.stat().st_size, limits)
        members = []
        for member in archive.members():
            account.add(member.size_bytes)
            if not is_reserved(member.name):
                members.append(member)
        check_members(members, path)
        size_bytes = sum(member.size_bytes for member in members)
        paths = tuple(out / member.name for member in members if member.kind in ("file", "link"))
        if not dry_run:
            check_room(out, size_bytes)
            for member in track(members, description="unpack", disable=not progress):
                _write(archive, member, out / member.name)
    return Unpacked(paths, size_bytes)


def check_room(out: Path, size_bytes: int) -> None:
    """Refuses to begin what the disk cannot hold.

    Raises:
        ValueError: Names what is needed and what is free.
    """
    folder = next(parent for parent in (out, *out.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(folder).free
    if size_bytes > free:
        raise ValueError(
            f"{out} needs {size_bytes / 2**20:,.0f} MiB, but only {free / 2**20:,.0f} MiB are free there; nothing was "
            "written: make room or give another folder"
        )


def _write(archive: Archive, member: Member, path: Path) -> None:
    """Writes one member, unless it is there."""
    if member.kind == "folder":
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if member.kind == "link":
        path.unlink(missing_ok=True)
        path.symlink_to(member.target)
        return
    if path.is_file() and path.stat().st_size == member.size_bytes:
        return
    with replacing(path) as temporary, temporary.open("wb") as target, archive.open(member) as content:
        shutil.copyfileobj(content, target, 2**20)
        if target.tell() != member.size_bytes:
            raise ValueError(f"{path.name}: {target.tell()} bytes in the archive, {member.size_bytes} were announced")
