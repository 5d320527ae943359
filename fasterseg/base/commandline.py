"""Command lines: the options that every stage takes, and where a mistake becomes one clear message and an exit code.

Every program of the toolkit is a typer app of `make_app` that ends in `run_app`. What a user can cause reaches it as
`ValueError`, `TypeError` or `FileNotFoundError`, raised on purpose, with a message that is written for people.
"""

import os
import platform
import shlex
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

import fasterseg
from fasterseg.base.console import CONSOLE
from fasterseg.base.mistakes import message_for_user
from fasterseg.base.text import printable_lines

OWN_MISTAKE_EXIT_CODE = 1
USER_ERROR_EXIT_CODE = 2
INTERRUPTED_EXIT_CODE = 130
DEBUG_FLAG = "--debug"

# what every stage command takes
ConfigOption = Annotated[Path, typer.Option("--config", help="The experiment file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.field=value; may be given repeatedly.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME/STAGE when not given.")]


def make_app(help_text: str | None = None) -> typer.Typer:
    """A program: its commands are added to it, and `run_app` runs it."""
    return typer.Typer(
        help=help_text,
        epilog=f"{DEBUG_FLAG}, before or after the command, shows the traceback of an error.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )


def say(*lines: str) -> None:
    """Prints lines to the user, unbroken, so that commands and paths can be copied."""
    for line in lines:
        CONSOLE.print(line)


def run_app(app: typer.Typer) -> None:
    """Runs a command line and exits.

    The exit code is 0 when it went well, 2 with the message alone after a user's error, 1 with the traceback and what
    to report after a mistake of the toolkit's own, and 130 when it was interrupted.

    Raises:
        SystemExit: Always, with the exit code.
    """
    arguments, debug = _without_debug(sys.argv[1:])
    try:
        app(args=arguments)
    except SystemExit as end:
        if end.code == INTERRUPTED_EXIT_CODE:
            _tell("interrupted; the same command goes on where a stage was cut off")
        raise
    except Exception as error:
        raise SystemExit(_report(error, debug=debug)) from error


def _report(error: Exception, *, debug: bool) -> int:
    """Tells an error on the error stream; returns the exit code."""
    message = message_for_user(error)
    if message is None or debug:
        traceback.print_exception(error)
    if message is not None:
        _tell(f"error: {message}")
        return USER_ERROR_EXIT_CODE
    _tell(
        "error: this is a mistake of the toolkit, not of yours; please report the lines above and these: "
        f"fasterseg {fasterseg.__version__}, Python {platform.python_version()}, {platform.platform()}; "
        f"{shlex.join(sys.argv)}"
    )
    return OWN_MISTAKE_EXIT_CODE


def _tell(message: str) -> None:
    # torchrun, or Fabric where it starts the processes, tells each one its number
    number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    sys.stderr.write(("" if number == "0" else f"process {number}: ") + f"{printable_lines(message)}\n")


def _without_debug(arguments: list[str]) -> tuple[list[str], bool]:
    """The arguments without the flag, which may stand anywhere before a `--`, and whether it was there."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [text for text in arguments[:end] if text != DEBUG_FLAG]
    return kept + arguments[end:], len(kept) < end
