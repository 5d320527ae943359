import shlex
from pathlib import Path

import pytest

from dataset_tools.quoting import quote_names, read_list_lines, split_mapping_line, split_names

NAMES = ("a.png", "two words", "it's", 'say "hi"', "ä 東", "line\nbreak", "cr\rlf\r\n", "back\\slash", "$'x'", "$", "")


def test_every_name_comes_back_from_one_line() -> None:
    line = quote_names(NAMES)
    assert "\n" not in line and "\r" not in line
    assert split_names(line) == list(NAMES)


@pytest.mark.parametrize("line", ["a b", "'a b' c", '"a \\" b" "C:\\x" c\\ d', "a'b'\"c\"d", "  a   b  ", "a#b #c", ""])
def test_reads_like_a_shell(line: str) -> None:
    assert split_names(line) == shlex.split(line)


def test_names_without_line_breaks_are_written_like_shlex() -> None:
    for name in NAMES:
        if "\n" not in name and "\r" not in name:
            assert quote_names([name]) == shlex.quote(name)


@pytest.mark.parametrize(("line", "message"), [("'a", "No closing"), ('a"b', "No closing"), ("a\\", "No escaped")])
def test_malformed(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_names(line)
    with pytest.raises(ValueError, match=r"unknown escape \\q"):
        split_names(r"$'a\q'")


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes("\ufeffa\u2028b c\r\n\n  \nd\x0be\n".encode())
    assert read_list_lines(tmp_path / "l.txt") == [(1, "a\u2028b c"), (4, "d\x0be")]


def test_lines_of_mapping_lists() -> None:
    assert split_mapping_line("my image.png\tmy mask.png") == ["my image.png", "my mask.png"]
    assert split_mapping_line("'my image.png' mask.png") == ["my image.png", "mask.png"]
