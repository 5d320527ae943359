"""Atomic writing of files: neither a kill nor a power cut leaves a partial file.

A file is written under a temporary name in the same folder, flushed to the disk and renamed; then the folder is
flushed. So a file that exists is complete. A kill can leave temporary files, `.NAME.PID.tmp`. They do not count as
content of a folder (`has_content`). A process that opens a folder for writing removes those whose owner has ended
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
_LEFT_OVER_AFTER_S = 24 * 3600
# errors of file systems that cannot flush a folder or lock a file
_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EBADF)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well, it becomes `path`, else it is removed.

    The folder is created when missing. A symbolic link at `path` is replaced, never written through. The temporary file
    is created empty and stays locked while the block runs, so that other processes see that its owner is alive.

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
            if sys.platform == "win32":  # Windows does not rename an open file
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
    """Puts `path` into an `OSError` of the block that names no file, or names our temporary file."""
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
    """Keeps the file at `path` as `previous` too, before `path` is replaced.

    On a file system without hard links, `path` is renamed, and is missing until it is written again.
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
    """Whether a folder holds anything besides our temporary files.

    Args:
        folder: An existing folder.
        besides: Further names that do not count.
    """
    return any(not is_temporary(path) and path.name not in besides for path in folder.iterdir())


def remove_leftovers(folder: Path) -> None:
    """Removes our temporary files whose owner has ended, in a folder and its subfolders; errors are ignored.

    A live owner holds the operating system's lock on its file, also from another container or machine that shares the
    folder. A file is left over if it is unlocked and no other process here has the id in its name. Process ids are
    reused, and some file systems have no locks. In those cases a file is left over once nothing was written to it for a
    day.
    """
    for parent, _, names in os.walk(folder):
        for path in (Path(parent) / name for name in names if name.endswith(".tmp")):
            with suppress(OSError):
                if is_temporary(path) and _is_left_over(path):
                    path.unlink()


def check_writable(path: Path) -> None:
    """Checks that a file can be written, before the work whose result it will hold; leaves nothing behind.

    Raises:
        OSError: The file cannot be written: it is a folder, the disk is read-only or full, the name is too long, and
            the like. The error carries the name `path`.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with naming(path):
        folder = path.parent
        while not folder.exists():
            folder = folder.parent
        probe = _temporary(folder / path.name)
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY, 0o666))
        probe.unlink()


def make_folder(folder: Path) -> None:
    """Creates a folder with its parents, and flushes the folders that hold new ones."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries, such as a rename, to the disk, if the file system can do that."""
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
    """Locks an open file until it is closed; False if another process holds the lock, None without locks."""
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
    """Whether a temporary file's owner has ended; see `remove_leftovers`."""
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
    return time.time() - path.stat().st_mtime > _LEFT_OVER_AFTER_S


def _runs_here(pid: int) -> bool:
    """Whether another process of this machine has that id; our own files would be locked."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
