"""Words for what pydantic finds wrong: one line per field, nothing about pydantic."""

from pathlib import Path

from pydantic import ValidationError


def describe_problems(error: ValidationError, source: Path | str) -> str:
    """Lists every malformed field of a file or of settings.

    Args:
        error: What the model's validation raised.
        source: The file, or what else the values come from.

    Returns:
        The source and one line per field.
    """
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'content'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors()
    ]
    return f"{source}:\n  " + "\n  ".join(lines)
