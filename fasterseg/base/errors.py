"""Error messages for users: failed validation, differing settings, errors of the system, lack of memory."""

import difflib
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fasterseg.base.text import printable

_SHOWN_DIFFERENCES = 4
_LINE_LENGTH = 400
_REMEDIES = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some of your quota there",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "change its permissions or choose another place",
    errno.EPERM: "change its permissions or choose another place",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EISDIR: "name a file in it, or another place",
    errno.ENOTDIR: "choose another place",
    errno.ENOENT: "correct the path",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.EIO: "check the disk",
}
# messages of PyTorch, NumPy, OpenCV and ONNX Runtime when memory runs out, besides `MemoryError`
_MEMORY_PHRASES = ("can't allocate memory", "out of memory", "failed to allocate memory", "insufficient memory")


class DamagedFileError(ValueError):
    """A file is truncated, empty or corrupt."""


def unknown_key(key: object, known: Sequence[str], *, where: str = "") -> str:
    """One line about an unknown key, with the nearest known key.

    Args:
        key: The unknown key.
        known: All known keys.
        where: What precedes the key in its full name, such as `student.`.
    """
    nearest = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
    listed = f"expected one of {', '.join(known)}" if known else "not expected here"
    hint = f"did you mean '{nearest[0]}'?" if nearest else listed
    return f"{where}{key}: unknown key; {hint}"


def describe_validation(
    error: ValidationError, model: type[BaseModel] | None = None, *, section: str = ""
) -> list[str]:
    """One line per problem: the field's full name, what was found, what was expected; nothing about pydantic.

    Args:
        error: The error that the model's validation raised.
        model: The model, for the nearest name of a key that is unknown.
        section: Name of the section that holds the values, if any.
    """
    prefix = (section,) if section else ()
    lines = []
    for problem in error.errors():
        path = ".".join(str(part) for part in (*prefix, *problem["loc"]))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            *parents, key = problem["loc"]
            where = "".join(f"{part}." for part in (*prefix, *parents))
            lines.append(unknown_key(key, _fields_at(model, parents), where=where))
        elif problem["type"] == "missing":
            lines.append(f"{path}: required, but not set")
        elif problem["loc"]:
            lines.append(f"{path}: got {problem['input']!r}: {message}")
        else:
            lines.append(f"{path or 'content'}: {message}")
    return [line if len(line) <= _LINE_LENGTH else line[:_LINE_LENGTH] + "..." for line in lines]


def problems_of(source: Path | str, error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The problems of one file, or of settings, in one message: the source, and one line per problem."""
    return f"{source}:\n  " + "\n  ".join(describe_validation(error, model))


def list_problems(problems: Sequence[str], *, shown: int = 20) -> str:
    """The first problems, one per line and indented, and the number of the others."""
    more = [f"... and {len(problems) - shown} more"] if len(problems) > shown else []
    return "".join(f"\n  {problem}" for problem in [*problems[:shown], *more])


def differences(
    found: Any, wanted: Any, name: str = "", *, words: str = "{name} is {found} there, {wanted} here"
) -> Iterator[str]:
    """One line for each setting that differs between two groups of plain data.

    Args:
        found: The values found.
        wanted: The values expected; a name that only one group has is a difference, too.
        name: Prefix of the settings' full names.
        words: Format of a line, with `name`, `found` and `wanted`.
    """
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in {**found, **wanted}:
            inner = f"{name}.{key}" if name else str(key)
            yield from differences(found.get(key), wanted.get(key), inner, words=words)
    elif found != wanted:
        yield words.format(name=name, found=found, wanted=wanted)


def summarize_differences(lines: Sequence[str]) -> str:
    """The first few differences in one line, and how many more there are."""
    hidden = len(lines) - _SHOWN_DIFFERENCES
    return "; ".join(lines[:_SHOWN_DIFFERENCES]) + (f"; and {hidden} more" if hidden > 0 else "")


def describe_os_error(error: OSError) -> str:
    """One line about an error of the operating system: path, reason, remedy, and that no file was lost.

    Files are replaced atomically (see `fasterseg.base.files`), so the old file is still there.

    Args:
        error: The error, with its path; `files.naming` adds a path that the system leaves out.
    """
    paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    reason = error.strerror or str(error) or type(error).__name__
    problem_text = f"{printable(' -> '.join(paths))}: {reason}" if paths else reason
    remedy = _REMEDIES.get(error.errno or 0)
    advice = f"; {remedy} and run the same command again" if remedy else ""
    return f"{problem_text}{advice}. What was there before is kept as it was"


def describe_memory_error(error: BaseException) -> str | None:
    """One line about an out-of-memory error of the machine or a GPU; None for other errors."""
    text = str(error)
    short = isinstance(error, MemoryError) or (
        isinstance(error, Exception)
        and not isinstance(error, OSError | ValueError | TypeError)
        and any(phrase in text.lower() for phrase in _MEMORY_PHRASES)
    )
    if not short:
        return None
    first = text.splitlines()[0] if text else type(error).__name__
    return (
        f"out of memory: {first[:_LINE_LENGTH]}; use smaller images, crops or batches, or end other programs, and run "
        "the same command again. Files that were finished are kept"
    )


def _fields_at(model: type[BaseModel] | None, location: Sequence[int | str]) -> list[str]:
    """The field names of the nested model that an error's location points into."""
    if model is None:
        return []
    current = model
    for part in location:
        field = current.model_fields.get(str(part))
        candidates = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
        if nested:
            current = nested[0]
    return list(current.model_fields)
