"""Entry point of `python -m latency`."""

import typer

from fasterseg.base.commandline import run_app
from latency.commands import export_command, import_command, measure_command, table_command, validate_command

app = typer.Typer(
    help="Measure operators and networks on the target.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("table")(table_command)
app.command("validate")(validate_command)
app.command("measure")(measure_command)
app.command("import")(import_command)
app.command("export")(export_command)

if __name__ == "__main__":
    run_app(app)
