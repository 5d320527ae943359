"""Checking out a git repository: one commit's files, after a look at their names and links."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from dataset_tools.paths import is_clutter
from dataset_tools.pull.archive import (
    DOWNLOAD_FOLDER,
    RESERVED_NAMES,
    Member,
    check_members,
    check_room,
    is_reserved,
)

_LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\n"
# Whatever else git could do with an address, such as running a program.
_PROTOCOLS = "file:git:http:https:ssh"


class Checkout(NamedTuple):
    """What was checked out: the commit, paths of files and links, their bytes, submodules and clutter left out."""

    commit: str
    paths: tuple[Path, ...]
    size_bytes: int
    submodules: tuple[str, ...]
    left_out: int = 0


def check_out(address: str, out: Path, *, ref: str | None = None) -> Checkout:
    """Fetches one commit of a repository, without its history, and writes its files.

    Args:
        address: As git takes it.
        out: Where the files go.
        ref: Branch, tag or full commit hash; the repository's own choice when None.

    Returns:
        What was written.

    Raises:
        FileNotFoundError: git is not installed.
        ValueError: git refused, the tree has names or links that leave it, or files are git-lfs pointers.
    """
    for what, value in (("address", address), ("ref", ref or "HEAD")):
        if value.startswith("-"):
            raise ValueError(f"the {what} {value!r} begins with a dash, which git would take for an option")
    store = out / DOWNLOAD_FOLDER / "repository.git"
    shutil.rmtree(store, ignore_errors=True)
    store.mkdir(parents=True)
    _git(store, "init", "--bare", "--quiet")
    _git(store, "remote", "add", "origin", address)
    _git(store, "fetch", "--quiet", "--depth", "1", "--no-tags", "origin", ref or "HEAD")
    found, submodules = _list(store)
    members = [member for member in found if not is_clutter(member.name)]
    check_members(members, f"repository {address}")
    size_bytes = sum(member.size_bytes for member in members)
    check_room(out, size_bytes)
    clutter = [member.name for member in found if is_clutter(member.name)]
    left_out = [f":(exclude,top){name}" for name in RESERVED_NAMES]
    left_out += [":(exclude,top,glob)**/._*", ":(exclude,top,glob)**/._*/**", ":(exclude,top,glob)**/__MACOSX/**"]
    commit = _git(store, "rev-parse", "FETCH_HEAD^{commit}").decode().strip()
    _git(store, "--work-tree", str(out.resolve()), "checkout", "--force", "FETCH_HEAD", "--", ".", *left_out)
    shutil.rmtree(store.parent)
    paths = tuple(out / member.name for member in members)
    _check_pointers(paths, address)
    return Checkout(commit, paths, size_bytes, submodules, len(clutter))


def _git(store: Path, *arguments: str) -> bytes:
    """Runs git on the store and returns what it printed."""
    if shutil.which("git") is None:
        raise FileNotFoundError("git is not installed; install it, or get the data in another way")
    environment = {**os.environ, "GIT_ALLOW_PROTOCOL": _PROTOCOLS, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    command = ["git", "-c", "core.hooksPath=/dev/null", "--git-dir", str(store.resolve()), *arguments]
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    if result.returncode:
        message = result.stderr.decode(errors="replace").strip()
        raise ValueError(f"git {arguments[0]} failed: {message}; correct the address or --ref and run it again")
    return result.stdout


def _list(store: Path) -> tuple[list[Member], tuple[str, ...]]:
    """The files and links of the fetched commit, and its submodules."""
    members, submodules = [], []
    for entry in _git(store, "ls-tree", "-r", "-z", "-l", "--full-tree", "FETCH_HEAD").split(b"\0"):
        if not entry:
            continue
        facts, _, raw_name = entry.partition(b"\t")
        mode, _, digest, size = facts.decode().split()
        name = raw_name.decode("utf-8", "surrogateescape")
        if is_reserved(name):
            continue
        if mode == "160000":
            submodules.append(name)
        elif mode == "120000":
            target = _git(store, "cat-file", "blob", digest).decode("utf-8", "surrogateescape")
            members.append(Member(name, "link", 0, target))
        else:
            members.append(Member(name, "file", int(size)))
    return members, tuple(submodules)


def _check_pointers(paths: tuple[Path, ...], address: str) -> None:
    """Refuses files that only say where git-lfs keeps the data."""
    pointers = [path for path in paths if path.is_file() and _starts_with(path, _LFS_POINTER)]
    if pointers:
        raise ValueError(
            f"{len(pointers)} files of {address} are git-lfs pointers, not data ({pointers[0]}); install git-lfs, run "
            "`git lfs install`, and run the same command again"
        )


def _starts_with(path: Path, start: bytes) -> bool:
    """Whether a file begins with some bytes."""
    with path.open("rb") as file:
        return file.read(len(start)) == start
