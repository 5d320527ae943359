"""One process at a time writes into a folder: the operating system's lock on a file in it, which says who has it.

The lock ends with its process, however that ends. Reading a folder needs no lock.
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
    """The lock on a folder, held from the start until `release`, the end of the `with` block or of the process.

    Args:
        folder: Made when missing.

    Raises:
        FolderInUseError: Another process has it; the message says which one, and what to do.
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
        """Lets others have it."""
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
    """Who has the lock; empty where that cannot be read, such as right after its start."""
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
