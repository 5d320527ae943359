import csv
import io
from pathlib import Path

from fasterseg.base.text import csv_text, markdown_table, printable, printable_lines


def test_printable() -> None:
    assert printable(Path("a b/Straße 東京.png")) == "a b/Straße 東京.png"
    assert printable("x\ny\x1b[0m\u2028") == r"x\ny\x1b[0m\u2028"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\udce9"


def test_rows_come_back_from_the_text() -> None:
    text = csv_text([{"name": "a, b", "ms": 1.23456789, "first": None}, {"name": "c", "ms": 2.0, "first": 3}])
    assert text.splitlines()[0] == "name,ms,first"
    assert list(csv.DictReader(io.StringIO(text))) == [
        {"name": "a, b", "ms": "1.23457", "first": ""},
        {"name": "c", "ms": "2", "first": "3"},
    ]


def test_rows_of_other_columns_leave_the_rest_empty() -> None:
    text = csv_text([{"name": "a", "x_ms": 1.0}, {"name": "b", "y_ms": 2.0}])
    assert text.splitlines() == ["name,x_ms,y_ms", "a,1,", "b,,2"]


def test_printable_lines_keep_their_breaks() -> None:
    assert printable_lines("a\tb\nc\x1b]0;title\x07\r") == "a\tb\nc\\x1b]0;title\\x07\\r"


def test_a_table_has_a_rule_under_its_header() -> None:
    expected = ["|  | a |", "| --- | --- |", "| x | 1 |", "| y | 2 |"]
    assert markdown_table(["", "a"], [["x", "1"], ["y", "2"]]) == expected
