from pathlib import Path

from fasterseg.base.text import markdown_table, printable


def test_printable() -> None:
    assert printable(Path("a b/Straße 東京.png")) == "a b/Straße 東京.png"
    assert printable("x\ny\x1b[0m\u2028") == r"x\ny\x1b[0m\u2028"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\udce9"


def test_a_table_has_a_rule_under_its_header() -> None:
    expected = ["|  | a |", "| --- | --- |", "| x | 1 |", "| y | 2 |"]
    assert markdown_table(["", "a"], [["x", "1"], ["y", "2"]]) == expected
