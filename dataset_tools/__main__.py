"""Entry point of `python -m dataset_tools`."""

from dataset_tools.checking_commands import browse_command, check_command
from dataset_tools.commands import (
    clean_command,
    label_ids_command,
    lists,
    pack_command,
    pull_command,
    split_command,
    synthesize_command,
    tfrecord,
)
from dataset_tools.convert.commands import convert
from fasterseg.base.commandline import Program, run_app

app = Program("Make, convert and check datasets.")
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

if __name__ == "__main__":
    run_app(app)
