"""Text that can be shown: names that may hold line breaks, control characters or no text, and tables."""

from collections.abc import Sequence


def printable(text: object) -> str:
    r"""Text that is safe on a terminal and in a UTF-8 file.

    Args:
        text: What to show, such as a path.

    Returns:
        Its text with control characters and undecodable bytes as escapes, e.g. a line break as `\n`.
    """
    shown = (
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode() for char in str(text)
    )
    return "".join(shown)


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(header)} |", "|" + " --- |" * len(header), *(f"| {' | '.join(line)} |" for line in lines)]
