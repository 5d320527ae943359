r"""List files: tables of names as text, which a person can write by hand or with a spreadsheet program.

    image,mask
    images/a.png,masks/a.png
    "images/north, left.png",masks/b.png
    images/c.png

A list whose first line is its header, such as `image,mask`, is CSV: commas (or semicolons, or tabs, as the header has
them) between the fields, double quotes around a field that holds one. A list without the header is of the older form:
blanks between the names, quoted as in a shell, and `$'...'` with `\n` and `\t` around a name that holds a line break or
a tab. A line that is one name without commas, blanks and quotes is the same in both. Lists are written as CSV.
"""

import csv
import io
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fasterseg.base.textfile import read_text

_DELIMITERS = ",;\t"
_LIKE_CSV = re.compile(r"[^\s,;'\"]+\.\w+[,;][^\s,;'\"]+\.\w+")
_PART = re.compile(
    r"""\$'(?P<ansi>(?:[^'\\]|\\.)*)'
    | '(?P<single>[^']*)'
    | "(?P<double>(?:[^"\\]|\\.)*)"
    | \\(?P<escaped>.)
    | (?P<plain>[^ \t'"\\$]+|\$)
    | (?P<blank>[ \t]+)""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}
_ESCAPED = str.maketrans({char: f"\\{letter}" for letter, char in _ESCAPES.items()})


def read_lines(path: Path) -> list[tuple[int, str]]:
    """Reads the lines of a text file that hold something, with their numbers from 1.

    Only a line feed ends a line (a carriage return before it is dropped): names may hold the other characters that
    Python takes for line ends, such as U+2028.

    Raises:
        ValueError: See `read_text`.
    """
    lines = read_text(path).split("\n")
    return [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, header: Sequence[str], problems: list[str]) -> list[tuple[int, list[str]]]:
    """Reads the rows of a list, in CSV or in the older form.

    Args:
        path: The list.
        header: The names of its columns.
        problems: Gets a line for every row that is malformed, has more fields than there are columns, or an empty first
            one; such rows are left out.

    Returns:
        The line that each row begins on, from 1, and its fields, of which the last may be absent.

    Raises:
        ValueError: See `read_text`.
    """
    rows = []
    for number, fields in _read_rows(path, header):
        if isinstance(fields, str):
            problems.append(f"{path}:{number}: {fields}")
        elif len(fields) > len(header):
            problems.append(
                f"{path}:{number}: {len(fields)} names, expected {','.join(header)}; put a name that holds blanks, "
                "commas or quotes between double quotes"
            )
        elif not fields[0]:
            problems.append(f"{path}:{number}: no {header[0]}, expected {','.join(header)}")
        else:
            rows.append((number, fields))
    return rows


def _read_rows(path: Path, header: Sequence[str]) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of a list, each with its line; in place of malformed ones, what is wrong with them."""
    text = read_text(path)
    first = text.partition("\n")[0]
    for delimiter in _DELIMITERS:
        if [name.strip().strip('"') for name in first.split(delimiter)] == list(header):
            yield from _read_csv(text, delimiter)
            return
    for number, line in read_lines(path):
        if _LIKE_CSV.fullmatch(line.strip()):
            yield number, f"{line!r} is CSV; put the line `{','.join(header)}` above the first row"
            continue
        try:
            yield number, split_names(line)
        except ValueError as error:
            yield number, f"{error}; put names with spaces or quotes between double quotes"


def _read_csv(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """The rows of a CSV list below its header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    next(reader)
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"{error}; put a name that holds commas or quotes between double quotes, and double its own"
            continue
        if any(fields):
            yield number, fields


def table_text(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The CSV text of a list, as `read_table` reads it."""
    text = io.StringIO(newline="")
    as_needed = csv.writer(text, lineterminator="\n")
    always = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    as_needed.writerow(header)
    for row in rows:
        # `csv` itself quotes neither a carriage return nor a blank at the beginning.
        odd = any("\r" in field or field[:1] == " " for field in row)
        (always if odd else as_needed).writerow(row)
    return text.getvalue()


def split_names(line: str) -> list[str]:
    """Takes one line of the older form apart, as `shlex.split` does, and `$'...'`.

    Args:
        line: The line, without its line break.

    Returns:
        Its names.

    Raises:
        ValueError: A quotation is not closed, or `$'...'` holds an escape other than those for line break, carriage
            return, tab, backslash and apostrophe.
    """
    names: list[str] = []
    word: str | None = None
    position = 0
    while position < len(line):
        part = _PART.match(line, position)
        if part is None:
            raise ValueError("No closing quotation" if line[position] in "'\"" else "No escaped character")
        position = part.end()
        if part["blank"] is None:
            word = (word or "") + _text_of(part)
        elif word is not None:
            names.append(word)
            word = None
    return names if word is None else [*names, word]


def _text_of(part: re.Match[str]) -> str:
    """What one quoted or plain part of a word stands for."""
    kind = part.lastgroup or ""
    text = part[kind]
    if kind == "double":
        return re.sub(r'\\(["\\])', r"\1", text)
    if kind == "ansi":
        unknown = sorted({found for found in re.findall(r"\\(.)", text, re.DOTALL) if found not in _ESCAPES})
        if unknown:
            raise ValueError(f"unknown escape \\{unknown[0]} in $'...'")
        return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], text)
    return text


def quote_names(names: Iterable[str]) -> str:
    """Joins names to one line that `split_names` takes apart again: as `shlex.join` does, or `$'...'`."""
    return " ".join(_quote(name) for name in names)


def _quote(name: str) -> str:
    """Quotes one name where it needs it."""
    if not any(char in name for char in "\n\r\t"):
        return shlex.quote(name)
    return "$'" + name.translate(_ESCAPED) + "'"


def split_mapping_line(line: str) -> list[str]:
    """Takes a line of another tool's list apart: at the tab where it holds one, else like `split_names`."""
    return line.split("\t") if "\t" in line else split_names(line)


def mapping_paths(root: Path, line: str) -> list[Path]:
    """The paths that a line of another tool's list names, below a folder; backslashes of Windows count as `/`.

    Raises:
        ValueError: A quotation is not closed.
    """
    paths = [root / name for name in split_mapping_line(line)]
    if "\\" in line and not all(path.exists() for path in paths):
        return [root / name for name in split_mapping_line(line.replace("\\", "/"))]
    return paths
