"""Errors in words for people: what pydantic finds wrong, what the system refuses, what differs between settings."""

import difflib
import errno
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fasterseg.base.text import printable

# the system's errors that a user meets: what is wrong, and what helps
_OS_ERRORS = {
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.EACCES: ("permission denied", "change its permissions, or name another place"),
    errno.EPERM: ("not permitted", "change its permissions, or name another place"),
    errno.EROFS: ("the disk is read-only", "name a place that can be written"),
    errno.ENOSPC: ("no space left on the disk", "free some, or name a place on another disk"),
    errno.EDQUOT: ("your quota of the disk is used up", "free some, or name a place on another disk"),
    errno.EISDIR: ("is a folder, expected a file", "name the file in it"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "check the path"),
    errno.EEXIST: ("exists already", "name another place"),
    errno.ENAMETOOLONG: ("the name is too long", "name a shorter one"),
    errno.ELOOP: ("its symbolic links lead in a circle", "correct the links"),
    errno.EMFILE: ("too many files are open at once", "raise the limit with `ulimit -n`"),
    errno.EIO: ("the disk failed", "check the disk and the messages of the system"),
}
_SHOWN_DIFFERENCES = 4
_LINE_LENGTH = 400


def unknown_key(key: object, known: Sequence[str], *, where: str = "") -> str:
    """One line about a key that is not known, with the nearest one that is.

    Args:
        key: The key.
        known: All that are known there.
        where: What it stands in, such as `student.`.
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
        error: What the model's validation raised.
        model: The model, for the nearest name of a key that is unknown.
        section: The name of the section that the values stand in, if any.
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


def differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    """Each setting that differs between two groups of plain data, with both values, by its full name."""
    if isinstance(found, Mapping) and isinstance(wanted, Mapping):
        for key in {**found, **wanted}:
            yield from differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else str(key))
    elif found != wanted:
        yield f"{name} is {found} there, {wanted} here"


def summarize_differences(lines: Sequence[str]) -> str:
    """The first few differences in one line, and how many more there are."""
    hidden = len(lines) - _SHOWN_DIFFERENCES
    return "; ".join(lines[:_SHOWN_DIFFERENCES]) + (f"; and {hidden} more" if hidden > 0 else "")


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


def describe_os_error(error: OSError) -> str:
    """What the operating system refused, with the file and what helps; an error of our own keeps its message."""
    if error.errno is None:
        return str(error)
    files = [printable(file) for file in (error.filename, error.filename2) if file not in (None, "")]
    cause, remedy = _OS_ERRORS.get(error.errno, (error.strerror or errno.errorcode.get(error.errno, "refused"), ""))
    return ": ".join([" -> ".join(files)] * bool(files) + [cause]) + (f"; {remedy}" if remedy else "")
