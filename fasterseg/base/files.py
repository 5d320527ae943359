"""Writing files so that neither a kill nor a power cut leaves half of one.

Everything is written to a temporary name beside its place, flushed to the disk and renamed; then the folder is flushed.
A file that exists is complete.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; when the block ends well, it becomes `path`, else it is removed.

    The folder is made when missing. A symbolic link at `path` is replaced, never written through.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file as `replacing` does."""
    write_bytes(path, text.encode())


def file_digest(path: Path) -> str:
    """The first 16 hexadecimal digits of a file's SHA-256, by which checkpoints name what they came from."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
