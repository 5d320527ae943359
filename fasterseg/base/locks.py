"""A lock on a folder, so that one process at a time writes into it.

It is the operating system's lock on a file in the folder; the file's content describes the owner. The lock is released
when its process ends, in whatever way. Reading a folder needs no lock.
"""

import errno
import json
import os
import platform
import shlex
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock

from fasterseg.base.console import CONSOLE
from fasterseg.base.files import make_folder, naming

LOCK_NAME = ".lock"
_CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)


class FolderInUseError(ValueError):
    """Another process writes into the folder."""


class FolderLock:
    """The lock on a folder, held from construction until `release`, or the end of the `with` block or process.

    Args:
        folder: The folder, created when missing.

    Raises:
        FolderInUseError: Another process holds the lock; the message says which process, and what to do.
        OSError: The lock's file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        make_folder(folder)
        path = folder / LOCK_NAME
        self._lock = filelock.FileLock(path, timeout=0, thread_local=False, fallback_to_soft=False)
        try:
            with naming(path):
                self._lock.acquire()
                path.write_text(json.dumps(_describe_owner(), indent=1) + "\n", encoding="utf-8")
        except filelock.Timeout:
            raise FolderInUseError(_in_use(folder, _read_owner(path))) from None
        except NotImplementedError as error:
            _warn(folder, str(error))
        except OSError as error:
            if error.errno not in _CANNOT_LOCK:
                raise
            _warn(folder, os.strerror(error.errno))

    def release(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _describe_owner() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(sys.orig_argv),
    }


def _read_owner(path: Path) -> dict[str, Any]:
    """The lock's owner; empty if the file cannot be read, such as while the owner writes it."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return owner if isinstance(owner, dict) else {}


def _in_use(folder: Path, owner: dict[str, Any]) -> str:
    who = "another process writes there"
    if owner:
        who = (
            f"process {owner.get('pid')} on {owner.get('host')} writes there since {owner.get('since')} "
            f"(`{owner.get('command')}`)"
        )
    return f"{folder} is in use: {who}; wait until it has ended, stop it, or choose another --out"


def _warn(folder: Path, reason: str) -> None:
    CONSOLE.print(f"{folder} cannot be locked ({reason}); see to it that no second process writes there")
