"""Files that grow by lines: records as JSON lines, and logs. An interrupted write loses only its last line.

A line is complete once its line break is written. Readers ignore an incomplete last line, and the next append of
records removes it.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.files import naming


def append_json_lines(path: Path, records: Iterable[Any], *, synced: bool = False) -> None:
    """Appends records to a file of JSON lines, which is created when missing.

    Args:
        path: The file.
        records: JSON-ready data, one line each; numbers must be finite.
        synced: Whether to flush the records to the disk before returning.
    """
    data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    with naming(path), path.open("a+b") as file:
        complete = _complete_length(path)
        if complete < path.stat().st_size:
            file.truncate(complete)
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def read_json_lines(path: Path, *, skip_damaged: bool = False) -> list[Any]:
    """The records of a file of JSON lines; none where there is no file.

    Args:
        path: The file.
        skip_damaged: Whether to leave out complete lines that are not JSON too, for records that are not essential.

    Raises:
        DamagedFileError: A complete line is not JSON.
    """
    if not path.is_file():
        return []
    records = []
    data = path.read_bytes()
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            records.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if not skip_damaged:
                raise DamagedFileError(f"{path}, line {number} is damaged ({error}); remove the file") from error
    return records


def append_text_line(path: Path, text: str) -> None:
    """Appends a line to a log, which is created when missing; an incomplete last line is ended first."""
    with naming(path), path.open("a+b") as file:
        size = path.stat().st_size
        incomplete = _complete_length(path) < size
        file.write(b"\n" * incomplete + text.encode("utf-8", "backslashreplace") + b"\n")


def _complete_length(path: Path) -> int:
    """Length of a file up to and including its last line break, in bytes; reads only the end if possible."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return 0
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1
