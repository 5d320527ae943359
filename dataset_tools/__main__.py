"""Entry point of `python -m dataset_tools`."""

import sys

import typer

from dataset_tools.browse.commands import browse_command
from dataset_tools.commands import label_ids_command, synthesize_command
from dataset_tools.convert.commands import convert
from dataset_tools.doctor.commands import check_command
from dataset_tools.management_commands import clean_command, lists, pull_command, split_command
from dataset_tools.storage_commands import pack_command, tfrecord

app = typer.Typer(help="Make, convert and check datasets.", no_args_is_help=True, add_completion=False)
app.add_typer(convert, name="convert")
app.command("synthesize")(synthesize_command)
app.command("label-ids")(label_ids_command)
app.command("check")(check_command)
app.command("browse")(browse_command)
app.command("pull")(pull_command)
app.command("split")(split_command)
app.command("clean")(clean_command)
app.command("pack")(pack_command)
app.add_typer(lists, name="lists")
app.add_typer(tfrecord, name="tfrecord")


def main() -> None:
    """Runs the command line; what the user can mend is one message, not a traceback."""
    try:
        app()
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
