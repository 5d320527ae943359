"""Distinguishes user errors, which get one message, from bugs of the toolkit, which get a traceback.

A user error is a `ValueError`, `TypeError` or `FileNotFoundError` whose traceback ends in a `raise` statement of the
toolkit. If an operation (`None[0]`, `int("x")`) or a library raises one of these types, a check is missing, so it is a
bug of the toolkit. Errors of the operating system (disk, permissions, memory) are user errors wherever they are raised.
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
# how PyTorch passes on an error of a data loader's worker process
_LOADER = re.compile(r"Caught \w+ in DataLoader worker process")
_TRACEBACK_ENTRY = re.compile(r'^  File "(?P<file>.+)", line (?P<line>\d+), in .*$', re.MULTILINE)


def message_for_user(error: BaseException) -> str | None:
    """The message of a user error; None for a bug of the toolkit."""
    if _LOADER.match(str(error)):
        return _message_in_text(str(error), error)
    if isinstance(error, ValueError | TypeError | FileNotFoundError):
        if _raised_on_purpose(error.__traceback__):
            return str(error)
        # a process pool passes on the traceback as the text of the cause
        if type(error.__cause__).__name__ == "_RemoteTraceback" and _message_in_text(str(error.__cause__), error):
            return str(error)
    if isinstance(error, OSError):
        # an `OSError` that the toolkit raises has no error number
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


def _message_in_text(text: str, error: BaseException) -> str | None:
    """The message of a user error that another process raised, from the text of its traceback."""
    last = list(_TRACEBACK_ENTRY.finditer(text))[-1:]
    if not last or not (isinstance(error, OSError) or _is_raise(last[0]["file"], int(last[0]["line"]))):
        return None
    return text[last[0].end() :].partition(f"\n{type(error).__name__}: ")[2].rstrip()


def _is_raise(file: str, line: int) -> bool:
    return _is_ours(file) and line in _raise_lines(file)


@cache
def _raise_lines(file: str) -> frozenset[int]:
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return frozenset(node.lineno for node in ast.walk(tree) if isinstance(node, ast.Raise))


def _is_ours(file: str) -> bool:
    path = Path(file)
    return path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in ROOMS
