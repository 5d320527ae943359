"""Entry point of `python -m dataset_tools`."""

import sys

import typer

from dataset_tools.commands import camvid_command, check_command, label_ids_command, synthesize_command

app = typer.Typer(help="Make, convert and check datasets.", no_args_is_help=True, add_completion=False)
convert = typer.Typer(help="Make a dataset folder of a public dataset.", no_args_is_help=True)
app.add_typer(convert, name="convert")
app.command("synthesize")(synthesize_command)
app.command("label-ids")(label_ids_command)
app.command("check")(check_command)
convert.command("camvid")(camvid_command)


@convert.callback()
def _convert() -> None:
    """Make a dataset folder of a public dataset."""


def main() -> None:
    """Runs the command line; what the user can mend is one message, not a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
