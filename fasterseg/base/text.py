"""Text output: names that are safe to print, rows as CSV, and Markdown tables.

Names of files and classes may hold line breaks, control characters or undecodable bytes.
"""

import csv
import io
from collections.abc import Mapping, Sequence


def printable(text: object) -> str:
    r"""Text that is safe on a terminal and in a UTF-8 file.

    Args:
        text: What to show, such as a path.

    Returns:
        Its text with control characters and undecodable bytes as escapes, e.g. a line break as `\n`.
    """
    return "".join(map(_shown, str(text)))


def printable_lines(text: str) -> str:
    """Like `printable` for a text of several lines: line breaks and tabs stay."""
    return "".join(char if char in "\n\t" else _shown(char) for char in text)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV text, with floats to six digits, under a header with the columns of all rows.

    Columns have the order of their first appearance. A value that is None or missing is an empty cell.

    Args:
        rows: At least one.
    """
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(text, fieldnames=columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return text.getvalue()


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(header)} |", "|" + " --- |" * len(header), *(f"| {' | '.join(line)} |" for line in lines)]


def _shown(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
