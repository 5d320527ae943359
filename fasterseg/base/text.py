"""Names of files and classes as text that can be shown: they may hold line breaks, control characters or no text."""


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


def _shown(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
