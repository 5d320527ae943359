"""Watches what the present process does to files, and ends it at a chosen operation as a kill or a power cut would.

Opening for writing, renaming, removing, making a folder and syncing count as operations, each before it happens. What a
library writes below Python, as OpenCV does, is not seen.
"""

import os
import random
import re
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Ending = Literal["kill", "opened", "power"]
_NUMBER = re.compile(r"\d{3,}")
_NAMES = {"os.rename": "rename", "os.remove": "remove", "os.mkdir": "make folder", "os.rmdir": "remove folder"}


@dataclass(frozen=True)
class End:
    """Where a process ends.

    Attributes:
        number: The operation, counted from 1.
        ending: `kill` ends the process before the operation; `opened` leaves the file that it opens empty; `power`
            also empties, or cuts back, files that were not synced, each with probability 1/2.
        seed: Decides which of them.
    """

    number: int
    ending: Ending = "kill"
    seed: int = 0


@dataclass
class FileWatch:
    """The operations of a process below a folder.

    Attributes:
        folder: What lies elsewhere does not count.
        notes: An open file that takes a line for each operation, or for the one at the end alone.
        end: Where the process ends; None lets it run and notes all operations.
    """

    folder: str
    notes: int
    end: End | None = None
    count: int = 0
    synced_bytes: dict[str, int] = field(default_factory=dict)

    def install(self) -> None:
        """Watches this process from now on; those it starts are not watched."""
        owner, sync, sync_all = os.getpid(), os.fsync, os.sync
        busy = False

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal busy
            if busy or os.getpid() != owner:
                return
            busy = True
            try:
                self._audited(event, arguments)
            finally:
                busy = False

        def watched_sync(file: Any) -> None:
            number = file if isinstance(file, int) else file.fileno()
            path = str(Path(f"/proc/self/fd/{number}").readlink())
            self._happens("sync", path)
            sync(file)
            self.synced_bytes.pop(path, None)

        def watched_sync_all() -> None:
            sync_all()
            self.synced_bytes.clear()

        os.fsync = os.fdatasync = watched_sync
        os.sync = watched_sync_all
        sys.addaudithook(hook)

    def _audited(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, flags = _absolute(arguments[0]), arguments[2]
            if flags & (os.O_WRONLY | os.O_RDWR) and self._happens("open", path, flags):
                kept = Path(path).stat().st_size if Path(path).exists() and not flags & os.O_TRUNC else 0
                self.synced_bytes[path] = min(kept, self.synced_bytes.get(path, kept))
        elif event in _NAMES:
            path = _absolute(arguments[0])
            if not self._happens(_NAMES[event], path):
                return
            synced_bytes = self.synced_bytes.pop(path, None)
            if event == "os.rename":
                target = _absolute(arguments[1])
                self.synced_bytes.pop(target, None)
                if synced_bytes is not None:
                    self.synced_bytes[target] = synced_bytes

    def _happens(self, name: str, path: str, flags: int = 0) -> bool:
        """Counts an operation below the folder, and ends the process where it is to end."""
        if not path.startswith(self.folder + os.sep):
            return False
        self.count += 1
        text = f"{name} {_NUMBER.sub('N', os.path.relpath(path, self.folder))}"
        if self.end is None:
            os.write(self.notes, f"{text}\n".encode())
        elif self.count == self.end.number:
            os.write(self.notes, f"{text}\n".encode())
            if self.end.ending == "opened" and name == "open":
                os.close(os.open(path, flags, 0o666))
            if self.end.ending == "power":
                self._lose(random.Random(self.end.seed))
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def _lose(self, generator: random.Random) -> None:
        """Cuts files back to what was synced of them."""
        for path, size in self.synced_bytes.items():
            if Path(path).is_file() and generator.random() < 0.5:
                os.truncate(path, size)


def _absolute(path: str | bytes | os.PathLike[Any]) -> str:
    return str(Path(os.fsdecode(path)).resolve())
