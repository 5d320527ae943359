"""Groups of files that belong together, such as the frames of one drive: named by a pattern on the file name."""

import re
from pathlib import Path


def compile_group_pattern(text: str) -> re.Pattern[str]:
    """Reads a group pattern.

    Args:
        text: A regular expression that is searched in the file name.

    Returns:
        The pattern.

    Raises:
        ValueError: It is not a regular expression.
    """
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(
            f"group pattern {text!r} is not a regular expression: {error}; for example '^[^_]+' takes what stands "
            "before the first underscore"
        ) from error


def group_of(path: Path, pattern: re.Pattern[str]) -> str | None:
    """The group of a file.

    Args:
        path: The file; only its name is searched.
        pattern: Its bracketed parts, joined by "/", name the group; without brackets, all that matches does.

    Returns:
        The group, or None where the name does not match.
    """
    found = pattern.search(path.name)
    if found is None:
        return None
    return "/".join(part or "" for part in found.groups()) if pattern.groups else found.group()
