"""Whose mistake an error is: a user's, which is told in one message, or the toolkit's own, which needs its traceback.

What a user can cause is raised on purpose: the traceback ends in a `raise` statement of the toolkit, of `ValueError`,
`TypeError` or `FileNotFoundError`. The same types out of an operation (`None[0]`, `int("x")`) or out of a library are a
check that is missing, so they are the toolkit's mistake. What the system refuses (disk, permissions, memory) is the
user's to mend, wherever it was met.
"""

import ast
import dis
import re
from functools import cache
from pathlib import Path
from types import TracebackType

from fasterseg.base.errors import describe_memory_error, describe_os_error

ROOMS = ("fasterseg", "search", "train", "latency", "dataset_tools", "pipeline.py")
_ROOT = Path(__file__).resolve().parents[2]
_RAISE = dis.opmap["RAISE_VARARGS"]
# how PyTorch hands on an error of a process that loads data
_LOADER = re.compile(r"Caught \w+ in DataLoader worker process")
_PLACE = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in .*$', re.MULTILINE)


def message_for_user(error: BaseException) -> str | None:
    """The message of an error that a user can mend; None of a mistake of the toolkit's own."""
    if _LOADER.match(str(error)):
        return _told_in_text(str(error), error)
    if isinstance(error, ValueError | TypeError | FileNotFoundError):
        if _raised_on_purpose(error.__traceback__):
            return str(error)
        # a pool of processes hands on the traceback as the text of a cause
        if type(error.__cause__).__name__ == "_RemoteTraceback" and _told_in_text(str(error.__cause__), error):
            return str(error)
    if isinstance(error, OSError):
        # the toolkit's own have a message, the system's a number
        return str(error) if error.errno is None else describe_os_error(error)
    return describe_memory_error(error)


def _raised_on_purpose(traceback: TracebackType | None) -> bool:
    """Whether a traceback ends in a `raise` statement of the toolkit."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code = traceback.tb_frame.f_code
    return _is_ours(code.co_filename) and code.co_code[traceback.tb_lasti] == _RAISE


def _told_in_text(text: str, error: BaseException) -> str | None:
    """The message of an error that was raised on purpose in another process, whose traceback is here as text."""
    place = list(_PLACE.finditer(text))[-1:]
    if not place or not (isinstance(error, OSError) or _is_raise(place[0]["file"], int(place[0]["line"]))):
        return None
    return text[place[0].end() :].partition(f"\n{type(error).__name__}: ")[2].rstrip()


def _is_raise(file: str, line: int) -> bool:
    return _is_ours(file) and line in _raise_lines(file)


@cache
def _raise_lines(file: str) -> frozenset[int]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return frozenset(node.lineno for node in ast.walk(tree) if isinstance(node, ast.Raise))


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in ROOMS
