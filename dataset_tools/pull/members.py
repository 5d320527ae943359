"""What may be in a tree that comes from elsewhere: names that stay in the folder, and links that do.

Archives and repositories list their members here before anything is written.
"""

import posixpath
import re
from collections.abc import Iterable
from typing import Literal, NamedTuple

from dataset_tools.files import CLAIM_NAME, MADE_NAME

MemberKind = Literal["file", "folder", "link", "other"]
_DRIVE = re.compile(r"[A-Za-z]:")
_SHOWN_PROBLEMS = 10

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
        shown = problems[:_SHOWN_PROBLEMS]
        more = [f"... and {len(problems) - len(shown)} more"] if len(problems) > len(shown) else []
        raise ValueError(f"{source} is refused, nothing was written:\n  " + "\n  ".join([*shown, *more]))


def _problem_of_name(name: str) -> str | None:
    """Why a name may not be written, if so; back strokes count as `/`, which they are on other systems."""
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
