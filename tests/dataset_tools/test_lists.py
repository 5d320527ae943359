import shlex
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataset_tools.lists import (
    mapping_paths,
    quote_names,
    read_lines,
    read_table,
    read_text,
    split_mapping_line,
    split_names,
    table_text,
)

HEADER = ("image", "mask")
ODD = (
    "a.png",
    "two words",
    "it's",
    'say "hi"',
    "ä 東",
    "line\nbreak",
    "cr\rlf\r\n",
    "back\\slash",
    "$'x'",
    "$",
    "a,b;c",
    " x ",
)
# What a file may be called: anything but NUL; "/" only parts it.
NAMES = st.one_of(
    st.sampled_from(ODD), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
)
ROWS = st.lists(st.tuples(NAMES, st.just("") | NAMES))
in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path: Path, content: bytes | str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    problems: list[str] = []
    return read_table(path, HEADER, problems), [problem.removeprefix(str(path)) for problem in problems]


@given(rows=ROWS)
@in_one_folder
def test_every_name_comes_back_from_csv(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    found, problems = read(tmp_path / "l.txt", table_text(HEADER, rows))
    assert ([tuple(fields) for _, fields in found], problems) == (rows, [])


@given(rows=ROWS, encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@in_one_folder
def test_old_lists_are_still_read(tmp_path: Path, rows: list[tuple[str, str]], encoding: str) -> None:
    lines = [quote_names(name for name in row if name) for row in rows]
    assert not any("\n" in line or "\r" in line for line in lines)
    found, problems = read(tmp_path / "l.txt", "\n".join(lines).encode(encoding))
    assert not problems
    assert found == [(number, [name for name in row if name]) for number, row in enumerate(rows, start=1)]


@given(st.lists(st.text(st.characters(exclude_characters="\0\n\r\t", exclude_categories=["Cs"]))))
def test_old_lists_are_quoted_and_read_like_a_shells(names: list[str]) -> None:
    assert quote_names(names) == shlex.join(names)
    assert split_names(shlex.join(names)) == names


@pytest.mark.parametrize("line", ["a b", "'a b' c", '"a \\" b" "C:\\x" c\\ d', "a'b'\"c\"d", "  a   b  ", "a#b #c", ""])
def test_reads_like_a_shell(line: str) -> None:
    assert split_names(line) == shlex.split(line)


@pytest.mark.parametrize(("line", "message"), [("'a", "No closing"), ('a"b', "No closing"), ("a\\", "No escaped")])
def test_malformed(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_names(line)
    with pytest.raises(ValueError, match=r"unknown escape \\q"):
        split_names(r"$'a\q'")


@pytest.mark.parametrize("header", ["image,mask", "image;mask\r", '"image"\t"mask"', "image , mask"])
def test_lists_of_spreadsheet_programs(tmp_path: Path, header: str) -> None:
    delimiter = next(char for char in ",;\t" if char in header)
    lines = [header, delimiter.join(["a b.png", '"x,y;z.png"']), "", delimiter, "c.png", ""]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        found, problems = read(tmp_path / "l.txt", "\n".join(lines).encode(encoding))
        assert (found, problems) == ([(2, ["a b.png", "x,y;z.png"]), (5, ["c.png"])], [])


def test_a_row_begins_where_its_first_line_is(tmp_path: Path) -> None:
    found, _ = read(tmp_path / "l.txt", 'image,mask\n"two\nlines",a\nb, "c d"\n')
    assert found == [(2, ["two\nlines", "a"]), (4, ["b", "c d"])]


def test_names_alone_are_the_same_in_both_forms(tmp_path: Path) -> None:
    names = "a.png\nsub/b.png\n"
    assert [row for _, row in read(tmp_path / "a.txt", names)[0]] == [["a.png"], ["sub/b.png"]]
    assert [row for _, row in read(tmp_path / "b.txt", f"image,mask\n{names}")[0]] == [["a.png"], ["sub/b.png"]]


def test_malformed_rows_are_all_named_and_the_others_read(tmp_path: Path) -> None:
    found, problems = read(tmp_path / "l.txt", 'image,mask\na,b,c\nok,m\n"x"y,m\n,m\nok2,m\n"open,m\n')
    assert [row for _, row in found] == [["ok", "m"], ["ok2", "m"]]
    for problem, expected in zip(problems, (":2: 3 names", ":4: ", ":5: no image", ":7: "), strict=True):
        assert problem.startswith(expected)
        assert "between double quotes" in problem or "expected image,mask" in problem


def test_csv_without_its_header_is_told(tmp_path: Path) -> None:
    found, problems = read(tmp_path / "l.txt", "images/a.png,masks/a.png\nb,1.png c.png\n")
    assert found == [(2, ["b,1.png", "c.png"])]
    assert problems == [":1: 'images/a.png,masks/a.png' is CSV; put the line `image,mask` above the first row"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nGebäude".encode("latin-1"), r"l\.txt:2: the byte 0xE4 is not UTF-8; save the file as UTF-8"),
        ("a\nb\n".encode("utf-16-le"), r"l\.txt:1: a NUL character, as in UTF-16 without its mark"),
        ("a\nb\n".encode("utf-16")[:-1], r"l\.txt:2: the byte 0x.. is not UTF-16"),
    ],
)
def test_other_encodings_are_refused_by_file_and_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "l.txt").write_bytes(content)
    for reader in (read_text, read_lines):
        with pytest.raises(ValueError, match=message):
            reader(tmp_path / "l.txt")


def test_only_line_feeds_end_lines(tmp_path: Path) -> None:
    (tmp_path / "l.txt").write_bytes("\ufeffa\u2028b c\r\n\n  \nd\x0be\n".encode())
    assert read_lines(tmp_path / "l.txt") == [(1, "a\u2028b c"), (4, "d\x0be")]


def test_lines_of_mapping_lists() -> None:
    assert split_mapping_line("my image.png\tmy mask.png") == ["my image.png", "my mask.png"]
    assert split_mapping_line("'my image.png' mask.png") == ["my image.png", "mask.png"]


@pytest.mark.parametrize(
    "line", ["i\\a.png m\\b.png", "i\\a.png\tm\\b.png", "i/a.png m/b.png", "'i\\a.png' \"m\\b.png\""]
)
def test_mapping_lists_of_windows(tmp_path: Path, line: str) -> None:
    for name in ("i/a.png", "m/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert mapping_paths(tmp_path, line) == [tmp_path / "i/a.png", tmp_path / "m/b.png"]


def test_a_backslash_in_a_mapping_list_may_be_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "a\\b.png").touch()
    assert mapping_paths(tmp_path, "'a\\b.png'") == [tmp_path / "a\\b.png"]
