"""What a table run has measured so far, on disk after every group of operators, so that a cut-off run goes on.

The journal lies beside the table: a first line with target, conditions and protocol, then one line for each entry. It
only ever grows; of a run that was killed in the middle of a line, that line is cut off and measured again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fasterseg.base.files import write_text
from fasterseg.networks.specs import OperatorSpec
from latency.records import TableEntry, entry_from_data, entry_to_data


def journal_path(table_path: Path) -> Path:
    """Where the journal of a table lies."""
    return table_path.with_name(table_path.name + ".partial.jsonl")


class EntryJournal:
    """The entries of an unfinished table run.

    Args:
        path: The journal's file; made if it does not exist.
        header: Target, conditions and protocol of this run as JSON-ready data.

    Attributes:
        entries: What earlier runs and this one have measured.

    Raises:
        ValueError: The file is of a run with another header, or damaged before its last line.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.entries: dict[OperatorSpec, TableEntry] = {}
        text = json.dumps(header, sort_keys=True)
        lines = self._complete_lines()
        if not lines:
            write_text(path, text + "\n")
            return
        self._check_header(lines[0], json.loads(text))
        for number, line in enumerate(lines[1:], start=2):
            try:
                spec, entry = entry_from_data(json.loads(line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is damaged ({error}); remove the file") from error
            self.entries[spec] = entry

    def append(self, entries: Mapping[OperatorSpec, TableEntry]) -> None:
        """Keeps further entries, on disk when this returns."""
        lines = [json.dumps(entry_to_data(spec, entry)) + "\n" for spec, entry in entries.items()]
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())
        self.entries.update(entries)

    def _complete_lines(self) -> list[str]:
        """The lines up to the last line break; what was cut off after it is taken off the file."""
        if not self.path.is_file():
            return []
        data = self.path.read_bytes()
        complete = data[: data.rfind(b"\n") + 1]
        if len(complete) < len(data):
            os.truncate(self.path, len(complete))
        try:
            return complete.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path} is not a table's journal ({error}); remove the file") from error

    def _check_header(self, line: str, header: dict[str, Any]) -> None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path} is not a table's journal ({error}); remove the file") from error
        if not isinstance(found, dict) or not all(isinstance(found.get(section), dict) for section in header):
            raise ValueError(f"{self.path} is not a table's journal: its first line is no header; remove the file")
        differing = [
            f"{section}.{name} {found[section].get(name)} (now: {value})"
            for section, values in header.items()
            for name, value in values.items()
            if found[section].get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{self.path} holds measurements of a run that was cut off, made under other conditions: "
                f"{', '.join(differing)}; go on under those, or remove the file to start anew"
            )
