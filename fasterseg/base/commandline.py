"""Command lines: the options that every stage takes, and where a mistake becomes one clear message and an exit code.

Every program of the toolkit is a typer app that ends in `run_app`; what is wrong in a file, a setting or a path reaches
it as `ValueError`, `TypeError` or `FileNotFoundError`, whose messages are written for people.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.console import CONSOLE

USER_ERROR_EXIT_CODE = 2

# what every stage command takes
ConfigOption = Annotated[Path, typer.Option("--config", help="The experiment file.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.field=value; may be given repeatedly.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Run folder; runs/NAME/STAGE when not given.")]


def say(*lines: str) -> None:
    """Prints lines to the user, unbroken, so that commands and paths can be copied."""
    for line in lines:
        CONSOLE.print(line)


def run_app(app: typer.Typer) -> None:
    """Runs a command line and exits: 0 when it went well, 2 with the message alone after a user's error.

    Other exceptions are our own mistakes and keep their traceback.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        app()
    except (ValueError, TypeError, FileNotFoundError) as error:
        # torchrun, or Fabric where it starts the processes, tells each one its number
        number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
        sys.stderr.write(f"error: {error}\n" if number == "0" else f"process {number}: error: {error}\n")
        raise SystemExit(USER_ERROR_EXIT_CODE) from None
