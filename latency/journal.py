"""What a table run has measured so far, on disk after every group of operators, so that a cut-off run goes on.

The journal lies beside the table: a first line with target, conditions and protocol, then one line for each entry. It
only ever grows; of a run that was killed in the middle of a line, that line is cut off and measured again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fasterseg.base.errors import DamagedFileError
from fasterseg.base.files import write_text
from fasterseg.base.lines import append_json_lines, read_json_lines
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
        # a line that was cut off is measured again
        if path.is_file():
            append_json_lines(path, [])
        try:
            lines = read_json_lines(path)
        except DamagedFileError as error:
            raise DamagedFileError(f"{error}, or move it away if it is not a table's journal") from error
        if not lines:
            write_text(path, text + "\n")
            return
        self._check_header(lines[0], json.loads(text))
        for number, line in enumerate(lines[1:], start=2):
            try:
                spec, entry = entry_from_data(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is damaged ({error}); remove the file") from error
            self.entries[spec] = entry

    def append(self, entries: Mapping[OperatorSpec, TableEntry]) -> None:
        """Keeps further entries, on disk when this returns."""
        append_json_lines(self.path, (entry_to_data(spec, entry) for spec, entry in entries.items()), synced=True)
        self.entries.update(entries)

    def _check_header(self, found: Any, header: dict[str, Any]) -> None:
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
