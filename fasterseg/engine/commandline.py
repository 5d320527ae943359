"""Command lines: the one place where a user's mistake becomes one clear message and an exit code.

Every program of the toolkit is a typer app that ends in `run_app`; what is wrong in a file, a setting or a path reaches
it as `ValueError`, `TypeError` or `FileNotFoundError`, whose messages are written for people.
"""

import sys

import typer

USER_ERROR_EXIT_CODE = 2


def run_app(app: typer.Typer) -> None:
    """Runs a command line and exits: 0 when it went well, 2 with the message alone after a user's error.

    Other exceptions are our own mistakes and keep their traceback.

    Raises:
        SystemExit: Always, with the exit code.
    """
    try:
        app()
    except (ValueError, TypeError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR_EXIT_CODE) from None
