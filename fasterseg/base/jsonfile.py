"""Reading JSON of unknown origin; every problem becomes one error message."""

import json
from pathlib import Path
from typing import Any

from fasterseg.base.textfile import read_text


def read_json(path: Path) -> Any:
    """The data of a JSON file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not valid JSON, not text, or nested too deeply.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}")
    return load_json(read_text(path), str(path))


def load_json(text: str, source: str) -> Any:
    """The data of a JSON text.

    Args:
        text: The text.
        source: What an error message calls it.

    Raises:
        ValueError: It is not valid JSON, or nested too deeply.
    """
    if not text.strip():
        raise ValueError(f"{source} is empty, expected JSON")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(f"{source} is not usable JSON: it is nested too deeply") from error
    except ValueError as error:  # also raised for a number with thousands of digits
        raise ValueError(f"{source} is not valid JSON: {error}") from error
