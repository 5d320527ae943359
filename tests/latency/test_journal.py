import json
from pathlib import Path

import pytest

from latency.journal import EntryJournal, journal_path
from latency.table import LatencyTable

HEADER = {"target": {"threads": 1, "input_size": [64, 96]}, "conditions": {"device_name": "a processor"}}


def test_entries_survive(table: LatencyTable, tmp_path: Path) -> None:
    path = journal_path(tmp_path / "deep" / "table.json")
    first, second = list(table.entries.items())[:2]
    EntryJournal(path, HEADER).append(dict([first]))
    again = EntryJournal(path, HEADER)
    assert again.entries == dict([first])
    again.append(dict([second]))
    assert EntryJournal(path, HEADER).entries == dict([first, second])


def test_a_line_cut_off_in_the_middle_is_dropped(table: LatencyTable, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    items = list(table.entries.items())
    EntryJournal(path, HEADER).append(dict(items[:3]))
    path.write_text(path.read_text()[:-20])
    journal = EntryJournal(path, HEADER)
    assert journal.entries == dict(items[:2])
    journal.append(dict(items[3:4]))
    assert len(EntryJournal(path, HEADER).entries) == 3


def test_entries_of_two_targets_are_never_mixed(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    EntryJournal(path, HEADER)
    other = {**HEADER, "target": {"threads": 2, "input_size": [64, 96]}}
    with pytest.raises(ValueError, match=r"target.threads 1 \(now: 2\); go on under those, or remove the file"):
        EntryJournal(path, other)


@pytest.mark.parametrize("line", ["{", json.dumps({"median_ms": 1}), "NaN"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    EntryJournal(path, HEADER)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ValueError, match="line 2 is damaged"):
        EntryJournal(path, HEADER)
    path.write_text("no journal\n")
    with pytest.raises(ValueError, match="is not a table's journal"):
        EntryJournal(path, HEADER)
