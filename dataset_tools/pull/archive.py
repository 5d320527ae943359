"""Trees that come from elsewhere: names and links that stay in their folder, and the unpacking of zip and tar archives.

Archives, folders and repositories list their members for `check_members` before anything is written. Then each file of
an archive is written whole or not at all; what an earlier, cut-off run has unpacked is kept.
"""

import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO, Literal, NamedTuple, Protocol

from dataset_tools.files import CLAIM_NAME, MADE_NAME
from dataset_tools.paths import is_clutter
from fasterseg.base.console import tracked
from fasterseg.base.errors import list_problems
from fasterseg.base.files import replacing

MemberKind = Literal["file", "folder", "link", "other"]
_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN_PROBLEMS = 10
_LONGEST_TARGET = 4096

DOWNLOAD_FOLDER = ".download"
RESERVED_NAMES = (CLAIM_NAME, MADE_NAME, DOWNLOAD_FOLDER)


class Member(NamedTuple):
    """One entry of a tree: its name with `/` between the parts, what it is, its size, and where a link points to.

    A link's target is relative to the folder of the link, as symbolic links are.
    """

    name: str
    kind: MemberKind
    size_bytes: int = 0
    target: str = ""


def is_reserved(name: str) -> bool:
    """Whether a member has the name of one of our own marks in the output folder; such are left out."""
    return posixpath.normpath(name).split("/")[0] in RESERVED_NAMES


class Limits(NamedTuple):
    """How much an archive may hold; one that promises more is a mistake or an attack.

    Attributes:
        size_bytes: Size of all files together.
        ratio: Size of all files together, as a multiple of the archive's; small archives may hold 64 MiB anyway.
        files: Number of members.
    """

    size_bytes: int = 500 * 2**30
    ratio: float = 100.0
    files: int = 10_000_000


DEFAULT_LIMITS = Limits()
_ALWAYS_ALLOWED_BYTES = 64 * 2**20


class Account:
    """Adds up the members of an archive and stops at the limits.

    Args:
        source: The archive, for messages.
        source_bytes: Its size.
        limits: What it may hold.
    """

    def __init__(self, source: object, source_bytes: int, limits: Limits) -> None:
        self._source = source
        self._most_bytes = min(limits.size_bytes, max(_ALWAYS_ALLOWED_BYTES, int(limits.ratio * source_bytes)))
        self._most_files = limits.files
        self._bytes = self._files = 0

    def add(self, size_bytes: int) -> None:
        """Counts one member.

        Raises:
            ValueError: A limit is passed.
        """
        self._bytes += size_bytes
        self._files += 1
        if self._bytes > self._most_bytes or self._files > self._most_files:
            raise ValueError(
                f"{self._source} holds more than {self._most_bytes / 2**20:,.0f} MiB or {self._most_files:,} files, "
                "which is out of proportion to its size; nothing was written. If this is right, raise --max-ratio or "
                "--max-gib"
            )


def check_members(members: Iterable[Member], source: object) -> None:
    """Refuses a tree that would write, or let something be read, outside of its folder.

    Args:
        members: All entries.
        source: What holds them, for the message.

    Raises:
        ValueError: Names that are absolute, hold `..`, or stand twice; links that point outwards or that other members
            lie behind; entries that are no file, folder or link. Lists them all.
    """
    problems: list[str] = []
    kinds: dict[str, MemberKind] = {}
    for member in members:
        reason = _problem_of_name(member.name)
        name = posixpath.normpath(member.name)
        if reason is None and member.kind == "other":
            reason = "is no file, folder or link"
        if reason is None and member.kind == "link":
            reason = _problem_of_link(name, member.target)
        if reason is None and name in kinds and not kinds[name] == member.kind == "folder":
            reason = "stands twice"
        if reason is not None:
            problems.append(f"{member.name!r} {reason}")
        kinds.setdefault(name, member.kind)
    for name in kinds:
        behind = [parent for parent in _parents(name) if kinds.get(parent, "folder") != "folder"]
        if behind:
            problems.append(f"{name!r} lies behind {behind[0]!r}, which is no folder")
    if problems:
        shown = list_problems(problems, shown=_SHOWN_PROBLEMS)
        raise ValueError(f"{source} is refused, nothing was written:{shown}")


def _problem_of_name(name: str) -> str | None:
    """Why a name may not be written, if so; a backslash is read as `/`, as on Windows."""
    plain = name.replace("\\", "/")
    if not name or "\0" in name:
        return "is empty or holds a NUL"
    if plain.startswith("/") or _DRIVE.match(plain):
        return "is an absolute path"
    return "leads outwards" if ".." in plain.split("/") else None


def _problem_of_link(name: str, target: str) -> str | None:
    """Why a link may not be written, if so."""
    plain = target.replace("\\", "/")
    if not plain or plain.startswith("/") or _DRIVE.match(plain):
        return f"is a link to {target!r}, which is an absolute path"
    parts = plain.split("/")
    if ".." in parts[parts.count("..") :]:
        # `inner/..` need not be where the link lies, when `inner` is a link itself.
        return f"is a link to {target!r}, which goes down and up again"
    reached = posixpath.normpath(posixpath.join(posixpath.dirname(name), plain))
    return f"is a link to {target!r}, which leads outwards" if reached.split("/")[0] == ".." else None


def _parents(name: str) -> list[str]:
    """The folders that a name lies in."""
    parts = name.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


class Archive(Protocol):
    """What both kinds of archive can do."""

    def members(self) -> Iterator[Member]:
        """All entries in order."""

    def open(self, member: Member) -> IO[bytes]:
        """The content of a file."""


class _ZipArchive:
    """A zip archive; backslashes in its names, which Windows' PowerShell wrote, are the `/` that zip prescribes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._infos: dict[str, zipfile.ZipInfo] = {}

    def members(self) -> Iterator[Member]:
        """All entries in order; see `Archive`."""
        for info in self._archive.infolist():
            if info.flag_bits & 1:
                raise ValueError(f"{self._archive.filename} is encrypted ({info.filename}); unpack it yourself")
            name = info.filename.replace("\\", "/")
            self._infos[name] = info
            mode = stat.S_IFMT(info.external_attr >> 16)
            if name.endswith("/"):
                yield Member(name, "folder")
            elif mode == stat.S_IFLNK:
                target = self._archive.read(info) if info.file_size <= _LONGEST_TARGET else b""
                yield Member(name, "link", 0, target.decode("utf-8", "surrogateescape"))
            else:
                yield Member(name, "file" if mode in (0, stat.S_IFREG) else "other", info.file_size)

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
    """What an archive holds, or what was unpacked: paths of files and links, their bytes, and files left out.

    Left out are those that macOS puts beside others: `._x`, and the folder `__MACOSX`.
    """

    paths: tuple[Path, ...]
    size_bytes: int
    left_out: int = 0


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
        members, left_out = [], 0
        for member in archive.members():
            account.add(member.size_bytes)
            if is_clutter(member.name):
                left_out += member.kind != "folder"
            elif not is_reserved(member.name):
                members.append(member)
        check_members(members, path)
        size_bytes = sum(member.size_bytes for member in members)
        paths = tuple(out / member.name for member in members if member.kind in ("file", "link"))
        if not dry_run:
            check_room(out, size_bytes)
            for member in tracked(members, "unpack", disable=not progress):
                _write(archive, member, out / member.name)
    return Unpacked(paths, size_bytes, left_out)


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
