"""Writing files so that neither a kill nor a power cut leaves half of one.

Everything is written to a temporary name beside its place, flushed to the disk and renamed; then the folder is flushed.
A file that exists is complete. What a kill leaves behind are temporary files, `.NAME.PID.tmp`: they are never content
of a folder (`has_content`), and whoever opens a folder to write into it removes those whose owner is gone
(`remove_leftovers`).
"""

import errno
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_TEMPORARY_NAME = re.compile(r"\..+\.(?P<pid>\d+)\.tmp", re.DOTALL)
_SURELY_LEFT_S = 24 * 3600
# what file systems answer that cannot flush a folder or lock a file
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well, it becomes `path`, else it is removed.

    The folder is made when missing. A symbolic link at `path` is replaced, never written through. The temporary file
    exists, empty, and is locked while the block runs, by which others see that its owner lives.

    Raises:
        OSError: It cannot be written; the error carries the name `path`.
    """
    with naming(path):
        make_folder(path.parent)
        temporary = _temporary(path)
        descriptor = os.open(temporary, os.O_CREAT | os.O_RDWR, 0o666)
        try:
            _try_lock(descriptor)
            yield temporary
            _sync(temporary)
            if sys.platform == "win32":  # which renames no open file
                os.close(descriptor)
                descriptor = -1
            temporary.replace(path)
            sync_folder(path.parent)
        finally:
            if descriptor >= 0:
                os.close(descriptor)
            temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an `OSError` of the block carry that path where it names no file, or our temporary one."""
    try:
        yield
    except OSError as error:
        named = error.filename
        if named is None or (isinstance(named, str) and is_temporary(Path(named))):
            error.filename = str(path)
            error.filename2 = None
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file as `replacing` does."""
    write_bytes(path, text.encode())


def keep_previous(path: Path, previous: Path) -> None:
    """Has `previous` be what `path` is now, before `path` is replaced; `path` stays as it is.

    Where the file system has no hard links, `path` is renamed, and is missing until it is written again.
    """
    if not path.is_file():
        return
    temporary = _temporary(previous)
    temporary.unlink(missing_ok=True)
    try:
        os.link(path, temporary)
    except OSError:
        path.replace(previous)
    else:
        temporary.replace(previous)
    sync_folder(previous.parent)


def is_temporary(path: Path) -> bool:
    """Whether a path is one of our temporary files, by its name: `.NAME.PID.tmp`."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None


def has_content(folder: Path, *, besides: tuple[str, ...] = ()) -> bool:
    """Whether a folder holds anything but our own temporary files.

    Args:
        folder: An existing folder.
        besides: Further names that do not count.
    """
    return any(not is_temporary(path) and path.name not in besides for path in folder.iterdir())


def remove_leftovers(folder: Path) -> None:
    """Removes our temporary files whose owner is gone, in the folder and those in it; what cannot be removed stays.

    An owner holds the operating system's lock on its file as long as it lives, also from another container or machine
    that shares the folder. So a file is left over when nobody has it locked and no other process here has its number.
    Numbers are given again, and some file systems cannot lock: such a file is left over when nothing was written to it
    for a day.
    """
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names if name.endswith(".tmp")):
            with suppress(OSError):
                if is_temporary(path) and _is_left_over(path):
                    path.unlink()


def check_writable(path: Path) -> None:
    """Finds out whether a file can be written, before the work that it is to hold; leaves nothing behind.

    Raises:
        OSError: It cannot: it is a folder, its place is read-only or full, the name is too long, and the like. The
            error carries the name `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with naming(path):
        place = path.parent
        while not place.exists():
            place = place.parent
        probe = _temporary(place / path.name)
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
        probe.unlink()


def make_folder(folder: Path) -> None:
    """Makes a folder with its parents, and flushes what holds the new ones."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, such as a rename, to the disk; file systems that cannot are left alone."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256, by which checkpoints name what they came from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _try_lock(descriptor: int) -> bool | None:
    """Locks an open file until it is closed; False where another process has it, None where that cannot be told."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _is_left_over(path: Path) -> bool:
    """Whether a temporary file's owner is gone; see `remove_leftovers`."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        free = _try_lock(descriptor)
    finally:
        os.close(descriptor)
    if free is False:
        return False
    match = _TEMPORARY_NAME.fullmatch(path.name)
    assert match is not None
    if free and not _runs_here(int(match["pid"])):
        return True
    return time.time() - path.stat().st_mtime > _SURELY_LEFT_S


def _runs_here(pid: int) -> bool:
    """Whether another process of this machine has that number; our own file would be locked."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
