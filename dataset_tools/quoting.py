r"""Names in split lists: one line per sample, names apart by blanks, quoted as in a shell.

    images/a.png masks/a.png
    'images/north side.png' "masks/north side.png"
    $'images/two\nlines.png' masks/b.png

A name that holds a line break or a tab is written as `$'...'`, the shell's form with `\n` and `\t`, so that a sample
always is one line of its file, and a tab in it always the end of another tool's name. Anything else is quoted like
`shlex.quote` does and read like `shlex.split` does.
"""

import re
import shlex
from collections.abc import Iterable
from pathlib import Path

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


def quote_names(names: Iterable[str]) -> str:
    """Joins names to one line that `split_names` takes apart again."""
    return " ".join(_quote(name) for name in names)


def _quote(name: str) -> str:
    """Quotes one name where it needs it."""
    if not any(char in name for char in "\n\r\t"):
        return shlex.quote(name)
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + escaped.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + "'"


def split_names(line: str) -> list[str]:
    """Takes one line of a list apart.

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
    kind = part.lastgroup
    text = part[kind] if kind is not None else ""
    if kind == "double":
        return re.sub(r'\\(["\\])', r"\1", text)
    if kind == "ansi":
        unknown = sorted({found for found in re.findall(r"\\(.)", text, re.DOTALL) if found not in _ESCAPES})
        if unknown:
            raise ValueError(f"unknown escape \\{unknown[0]} in $'...'")
        return re.sub(r"\\(.)", lambda found: _ESCAPES[found[1]], text)
    return text


def split_mapping_line(line: str) -> list[str]:
    """Takes a line of another tool's list apart: at the tab where it holds one, else like `split_names`."""
    return line.split("\t") if "\t" in line else split_names(line)


def read_list_lines(path: Path) -> list[tuple[int, str]]:
    """Reads the lines of a list that hold something, with their numbers from 1.

    Only a line feed ends a line (a carriage return before it is dropped): names may hold the other characters that
    Python takes for line ends, such as U+2028.
    """
    lines = path.read_bytes().decode("utf-8-sig").split("\n")
    return [(number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1) if line.strip()]
