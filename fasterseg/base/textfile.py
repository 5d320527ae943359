"""Reading text that a person or another program wrote: UTF-8 with or without a byte order mark, or UTF-16 with one."""

import codecs
from pathlib import Path

_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path) -> str:
    """Reads a text file.

    Raises:
        ValueError: It is neither UTF-8 nor UTF-16 with a byte order mark; names the file and the line.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}:{line}: the byte 0x{data[error.start]:02X} is not {error.encoding.upper()}; save the file as UTF-8"
        ) from error
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ValueError(f"{path}:{line}: a NUL character, as in UTF-16 without its mark; save the file as UTF-8")
    return text
