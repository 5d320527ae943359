"""`pull`: decides what an address is, gets it into a folder of ours, and notes what came."""

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from dataset_tools.files import MADE_NAME, claim_folder, record_made
from dataset_tools.paths import is_clutter
from dataset_tools.pull.archive import (
    DEFAULT_LIMITS,
    Limits,
    Member,
    Unpacked,
    check_members,
    check_room,
    is_reserved,
    unpack,
)
from dataset_tools.pull.download import download
from dataset_tools.pull.repository import check_out
from fasterseg.base.console import tracked
from fasterseg.base.files import replacing

AddressKind = Literal["folder", "archive", "download", "repository"]
_SCP_ADDRESS = re.compile(r"[\w.-]+@[\w.-]+:(?!/)")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Address(NamedTuple):
    """Where data comes from."""

    kind: AddressKind
    location: str

    @property
    def public(self) -> str:
        """The location as it is noted and shown: a path resolved, an address without a name or password in it."""
        if self.kind in ("folder", "archive"):
            return str(Path(self.location).resolve())
        return re.sub(r"(?<=://)[^/@]*@", "", self.location)


class Pulled(NamedTuple):
    """What `pull` got: number of files, their bytes, and what else there is to say; `fresh` is False for a repeat."""

    files: int
    size_bytes: int
    notes: tuple[str, ...] = ()
    fresh: bool = True


def read_address(text: str) -> Address:
    """Decides what an address is.

    Args:
        text: A folder, an archive, an http(s) address of one, or a git repository: `git+` and any address that git
            takes, an address that ends in `.git`, `ssh://...` or `user@host:path`.

    Raises:
        FileNotFoundError: It looks like a path, and nothing is there.
        ValueError: Its scheme is not supported.
    """
    if text.startswith("git+"):
        return Address("repository", text.removeprefix("git+"))
    scheme = urlsplit(text).scheme if "://" in text else ""
    if scheme in ("ssh", "git") or _SCP_ADDRESS.match(text) or (scheme and text.endswith(".git")):
        return Address("repository", text)
    if scheme in ("http", "https"):
        return Address("download", text)
    if scheme not in ("", "file"):
        raise ValueError(f"{text}: the scheme {scheme} is not supported; use http, https, file, ssh, git or git+...")
    path = Path(url2pathname(urlsplit(text).path)) if scheme else Path(text)
    if path.is_dir():
        return Address("folder", str(path))
    if not path.is_file():
        raise FileNotFoundError(f"nothing to pull at {path}: there is no such folder or archive")
    return Address("archive", str(path))


def pull(
    source: str,
    out: Path,
    *,
    sha256: str | None = None,
    ref: str | None = None,
    limits: Limits = DEFAULT_LIMITS,
    dry_run: bool = False,
    progress: bool = True,
) -> Pulled:
    """Gets data into a folder; a run that was cut off goes on, a finished one is not repeated.

    Args:
        source: See `read_address`.
        out: The folder: new, empty, or of an earlier run with the same arguments.
        sha256: Checksum that the archive or download must have.
        ref: Branch, tag or commit of a repository.
        limits: How much an archive may hold.
        dry_run: Write nothing; say what would come as far as that can be told without getting it.
        progress: Show progress bars.

    Returns:
        What came.

    Raises:
        FileNotFoundError: The source does not exist.
        ValueError: The source is damaged, unsafe or has another checksum, a download broke off, or the folder holds
            something else.
    """
    address = read_address(source)
    _check_arguments(address, out, sha256, ref)
    if address.kind == "archive":
        # Nothing is written, not even the folder's mark, for an archive that is refused.
        check_sha256(Path(address.location), sha256)
        held = unpack(Path(address.location), out, limits=limits, dry_run=True)
    elif address.kind == "folder":
        held = _copy_folder(Path(address.location), out, dry_run=True)
    else:
        held = Unpacked((), 0)
    if dry_run:
        fetched = address.kind in ("download", "repository")
        note = f"what {address.public} ({address.kind}) holds is known once it is fetched"
        return Pulled(len(held.paths), held.size_bytes, (note,) if fetched else _left_out(held))
    known = claim_folder(out, tool="pull", settings={"source": address.public, "sha256": sha256, "ref": ref})
    if known and (out / MADE_NAME).is_file():
        return Pulled(0, 0, fresh=False)
    got, notes = _get(address, out, sha256=sha256, ref=ref, limits=limits, progress=progress)
    record_made(out, got.paths)
    return Pulled(len(got.paths), got.size_bytes, (*notes, *_left_out(got)))


def _left_out(got: Unpacked) -> tuple[str, ...]:
    """What there is to say of files that were left out."""
    return (f"left out, files that macOS put beside others (._* and __MACOSX): {got.left_out}",) if got.left_out else ()


def _check_arguments(address: Address, out: Path, sha256: str | None, ref: str | None) -> None:
    """Refuses arguments that do not belong to this kind of address."""
    if sha256 is not None and (address.kind in ("folder", "repository") or not _SHA256.fullmatch(sha256)):
        raise ValueError(
            f"--sha256 {sha256}: expected 64 hexadecimal digits, for an archive or a download; a repository's commit "
            "is given with --ref"
        )
    if ref is not None and address.kind != "repository":
        raise ValueError(f"--ref is for repositories, {address.public} is {address.kind}; leave it out")
    if address.kind == "folder":
        inner, outer = out.resolve(), Path(address.location).resolve()
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise ValueError(f"{out} and {outer} overlap; give a folder outside the source, which is never changed")


def _get(
    address: Address, out: Path, *, sha256: str | None, ref: str | None, limits: Limits, progress: bool
) -> tuple[Unpacked, tuple[str, ...]]:
    """Gets the data, and what there is to say about it."""
    path = Path(address.location)
    if address.kind == "folder":
        return _copy_folder(path, out, progress=progress), ()
    if address.kind == "archive":
        return unpack(path, out, limits=limits, progress=progress), ()
    if address.kind == "repository":
        checkout = check_out(address.location, out, ref=ref)
        left = (f"submodules were left out: {', '.join(checkout.submodules)}",) if checkout.submodules else ()
        return Unpacked(checkout.paths, checkout.size_bytes, checkout.left_out), (f"commit {checkout.commit}", *left)
    path = download(address.location, out, progress=progress)
    try:
        check_sha256(path, sha256)
    except ValueError:
        # To go on with the wrong file could never end well.
        path.unlink()
        raise
    got = unpack(path, out, limits=limits, progress=progress)
    path.unlink()
    path.parent.rmdir()
    return got, ()


def check_sha256(path: Path, expected: str | None) -> None:
    """Compares the checksum of a file, where one is expected.

    Raises:
        ValueError: It is another; names both.
    """
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected.lower():
        raise ValueError(
            f"{path.name} has the SHA-256 {found}, expected {expected.lower()}: it is another file or was damaged on "
            "its way; nothing was unpacked"
        )


def _list_folder(source: Path) -> Iterator[Member]:
    """All files, links and special files of a folder."""
    for place, folders, names in os.walk(source):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        for name in sorted([*names, *links]):
            path = Path(place) / name
            relative, status = path.relative_to(source).as_posix(), path.lstat()
            if stat.S_ISLNK(status.st_mode):
                yield Member(relative, "link", 0, str(path.readlink()))
            else:
                yield Member(relative, "file" if stat.S_ISREG(status.st_mode) else "other", status.st_size)


def _copy_folder(source: Path, out: Path, *, dry_run: bool = False, progress: bool = True) -> Unpacked:
    """Copies a folder after checking its members; files that exist with the source's size and time are kept."""
    found = [member for member in _list_folder(source) if not is_reserved(member.name)]
    members = [member for member in found if not is_clutter(member.name)]
    check_members(members, source)
    size_bytes = sum(member.size_bytes for member in members)
    copies = Unpacked(tuple(out / member.name for member in members), size_bytes, len(found) - len(members))
    if dry_run:
        return copies
    check_room(out, size_bytes)
    for member in tracked(members, "copy", disable=not progress):
        path, original = out / member.name, source / member.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.kind == "link":
            path.unlink(missing_ok=True)
            path.symlink_to(member.target)
        elif not (path.is_file() and _same(path.stat(), original.stat())):
            with replacing(path) as temporary:
                shutil.copy2(original, temporary)
    return copies


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether two files have one size and time."""
    return (one.st_size, one.st_mtime_ns) == (other.st_size, other.st_mtime_ns)
