"""What a table run has measured so far, on disk after every group of operators, so that a cut-off run goes on.

The journal lies beside the table: a first line with target, conditions and protocol, then one line for each entry.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        if lines:
            self._check_header(lines[0], json.loads(text))
            for number, line in enumerate(lines[1:], start=2):
                try:
                    spec, entry = entry_from_data(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number} is damaged ({error}); remove the file") from error
                self.entries[spec] = entry
        path.parent.mkdir(parents=True, exist_ok=True)
        # a line that was cut off in the middle is measured again
        path.write_text("".join(line + "\n" for line in lines or [text]), encoding="utf-8")

    def append(self, entries: Mapping[OperatorSpec, TableEntry]) -> None:
        """Keeps further entries."""
        with self.path.open("a", encoding="utf-8") as file:
            for spec, entry in entries.items():
                file.write(json.dumps(entry_to_data(spec, entry)) + "\n")
        self.entries.update(entries)

    def remove(self) -> None:
        """Removes the journal, once the table is written."""
        self.path.unlink()

    def _complete_lines(self) -> list[str]:
        if not self.path.is_file():
            return []
        text = self.path.read_text(encoding="utf-8")
        return text[: text.rfind("\n") + 1].splitlines()

    def _check_header(self, line: str, header: dict[str, Any]) -> None:
        try:
            found = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{self.path} is not a table's journal ({error}); remove the file") from error
        differing = [
            f"{section}.{name} {found.get(section, {}).get(name)} (now: {value})"
            for section, values in header.items()
            for name, value in values.items()
            if found.get(section, {}).get(name) != value
        ]
        if differing:
            raise ValueError(
                f"{self.path} holds measurements of a run that was cut off, made under other conditions: "
                f"{', '.join(differing)}; go on under those, or remove the file to start anew"
            )
