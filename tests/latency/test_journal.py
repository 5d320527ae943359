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


def test_a_journal_only_grows(table: LatencyTable, tmp_path: Path) -> None:
    """A run that is killed while it starts must not lose what an earlier one measured."""
    path = tmp_path / "journal.jsonl"
    items = list(table.entries.items())
    EntryJournal(path, HEADER).append(dict(items[:3]))
    before, inode = path.read_bytes(), path.stat().st_ino
    EntryJournal(path, HEADER)
    assert path.read_bytes() == before and path.stat().st_ino == inode
    path.write_bytes(before + b'{"median_ms": 0.1, "p9')
    EntryJournal(path, HEADER)
    assert path.read_bytes() == before and path.stat().st_ino == inode


def test_a_run_killed_at_its_first_line_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"target": {"thr')
    assert EntryJournal(path, HEADER).entries == {}
    assert json.loads(path.read_text()) == HEADER


@pytest.mark.parametrize("data", [b"\xff\xfe\n", b"[]\n", b'{"target": 3}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="is not a table's journal"):
        EntryJournal(path, HEADER)
