"""Command lines: the options that every stage takes, and where a mistake becomes one clear message and an exit code.

Every program of the toolkit is a typer app that ends in `run_app`; what is wrong in a file, a setting or a path reaches
it as `ValueError`, `TypeError` or `FileNotFoundError`, whose messages are written for people; what the system refuses
as `OSError`, which is put into words here.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.console import CONSOLE
from fasterseg.base.errors import describe_memory_error, describe_os_error
from fasterseg.base.stopping import Stopped, listening

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

    What the operating system refuses, such as a full disk, and memory that is used up are user's errors too. After
    Ctrl-C, SIGTERM or SIGHUP it says how to go on and exits with 130, 143 or 129. Other exceptions are our own mistakes
    and keep their traceback.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        with listening():
            app()
    except Stopped as stopped:
        _complain(stopped.message)
        raise SystemExit(stopped.exit_code) from None
    except FileNotFoundError as error:
        # our own have a message, the system's a number
        _complain(f"error: {error if error.errno is None else describe_os_error(error)}")
    except (ValueError, TypeError) as error:
        _complain(f"error: {error}")
    except OSError as error:
        _complain(f"error: {describe_os_error(error)}")
    except (MemoryError, RuntimeError) as error:
        message = describe_memory_error(error)
        if message is None:
            raise
        _complain(f"error: {message}")
    raise SystemExit(USER_ERROR_EXIT_CODE) from None


def _complain(text: str) -> None:
    """Says on the error stream why the program ends; of several processes, each but the first gives its number."""
    # torchrun, or Fabric where it starts the processes, tells each one its number
    number = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
    sys.stderr.write(f"{text}\n" if number == "0" else f"process {number}: {text}\n")
