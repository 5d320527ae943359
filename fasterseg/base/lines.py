"""Files that grow by lines: records as JSON lines, and logs. A cut in the middle of a line costs that line alone.

A line counts once its line break is there. What a cut left after the last one is no record: readers leave it out, and
the next append takes it off.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.files import naming


def append_json_lines(path: Path, records: Iterable[Any], *, synced: bool = False) -> None:
    """Adds records to a file of JSON lines, which is made when missing.

    Args:
        path: The file.
        records: JSON-ready data, a line each; numbers have to be finite.
        synced: Whether they are on the disk when this returns.
    """
    data = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records).encode()
    with naming(path), path.open("a+b") as file:
        whole = _whole_length(path)
        if whole < path.stat().st_size:
            file.truncate(whole)
        file.write(data)
        file.flush()
        if synced:
            os.fsync(file.fileno())


def read_json_lines(path: Path, *, skip_damaged: bool = False) -> list[Any]:
    """The records of a file of JSON lines; none where there is no file.

    Args:
        path: The file.
        skip_damaged: Whether whole lines that are no JSON are left out too, for records that can be missed.

    Raises:
        DamagedFileError: A whole line is no JSON.
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
    """Adds a line to a log, which is made when missing; a line that a cut left without its end is ended first."""
    with naming(path), path.open("a+b") as file:
        size = path.stat().st_size
        torn = _whole_length(path) < size
        file.write(b"\n" * torn + text.encode("utf-8", "backslashreplace") + b"\n")


def _whole_length(path: Path) -> int:
    """Length of a file up to and including its last line break, in bytes; only the end is read where that does."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return 0
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return size
        file.seek(0)
        return file.read().rfind(b"\n") + 1
