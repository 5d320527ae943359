"""Progress off a terminal: sparse lines with the time left."""

from collections.abc import Iterator

import pytest
from rich.table import Table

from fasterseg.base import console
from fasterseg.base.console import epoch_progress, format_duration, tracked


def test_durations() -> None:
    assert [format_duration(value) for value in (0, 59.6, 61, 3723)] == ["0:00", "1:00", "1:01", "1:02:03"]


def test_time_left_counts_only_this_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 110.0, 110.0, 110.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    reporter = console.ProgressReporter("student", 30, completed=10)
    reporter.completed += 5
    assert reporter.time_left_s == 30.0  # 2 s each, 15 to go


def test_lines_are_sparse(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with epoch_progress("student", 100) as reporter:
        for _ in range(100):
            now[0] += 1
            reporter.advance(note="loss 0.5")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "student: 30/100, 1:10 left, loss 0.5"
    assert len(lines) == 3


def test_tracked_items_report_to_the_error_stream(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def clocked() -> Iterator[int]:
        for item in range(40):
            now[0] += 1
            yield item

    assert list(tracked(clocked(), "masks", disable=True)) == list(range(40))
    assert list(tracked(clocked(), "masks", total=40)) == list(range(40))
    assert list(tracked([3, 4], "few")) == [3, 4]
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines() == ["masks: 30/40, 0:10 left"]


def test_no_text_reaches_the_terminal_as_an_escape(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("class \x1b[2J")
    table.add_row("\x1b]0;title\x07road")
    console.CONSOLE.print("a\x1b[31mb\nc", table)
    console.CONSOLE.rule("\x1b[0m")
    shown = capsys.readouterr().out
    assert "\x1b" not in shown and "\x07" not in shown
    assert "a\\x1b[31mb\nc" in shown and "\\x1b]0;title\\x07road" in shown
