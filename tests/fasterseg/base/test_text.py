from pathlib import Path

from fasterseg.base.text import printable, printable_lines


def test_printable() -> None:
    assert printable(Path("a b/Straße 東京.png")) == "a b/Straße 東京.png"
    assert printable("x\ny\x1b[0m\u2028") == r"x\ny\x1b[0m\u2028"
    assert printable(b"caf\xe9".decode("utf-8", "surrogateescape")) == r"caf\udce9"


def test_printable_lines_keep_their_breaks() -> None:
    assert printable_lines("a\tb\nc\x1b]0;title\x07\r") == "a\tb\nc\\x1b]0;title\\x07\\r"
