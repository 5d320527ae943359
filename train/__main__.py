"""Entry point of `python -m train`."""

import typer

from fasterseg.engine.commandline import run_app
from train.commands import evaluate_command, student_command, teacher_command

app = typer.Typer(
    help="Train and evaluate searched networks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("teacher")(teacher_command)
app.command("student")(student_command)
app.command("evaluate")(evaluate_command)

if __name__ == "__main__":
    run_app(app)
