"""Things as text: names of files and classes safe to show, rows as CSV, and tables.

Names may hold line breaks, control characters or no text at all.
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
    """The same of a text of several lines, whose line breaks and tabs stay."""
    return "".join(char if char in "\n\t" else _shown(char) for char in text)


def csv_text(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as CSV text, with figures to six digits, under a line with the columns of all of them.

    Columns stand in the order in which they first appear. A cell that is None, or that its row does not have, is left
    empty.

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
