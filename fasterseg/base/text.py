"""Names of files and classes as text that can be shown: they may hold line breaks, control characters or no text."""


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
