"""Entry point of `python -m dataset_tools`."""

from dataset_tools.browse.commands import browse_command
from dataset_tools.commands import label_ids_command, synthesize_command
from dataset_tools.convert.commands import convert
from dataset_tools.doctor.commands import check_command
from dataset_tools.management_commands import clean_command, lists, pull_command, split_command
from dataset_tools.storage_commands import pack_command, tfrecord
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
