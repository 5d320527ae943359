"""Entry point of `python -m latency`."""

from fasterseg.base.commandline import Program, run_app
from latency.commands import export_command, import_command, measure_command, table_command, validate_command

app = Program("Measure operators and networks on the target.")
app.command("table")(table_command)
app.command("validate")(validate_command)
app.command("measure")(measure_command)
app.command("import")(import_command)
app.command("export")(export_command)

if __name__ == "__main__":
    run_app(app)
