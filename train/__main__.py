"""Entry point of `python -m train`."""

from fasterseg.base.commandline import Program, run_app
from train.commands import baseline_command, student_command, teacher_command
from train.judging_commands import align_command, compare_command, evaluate_command
from train.prune.commands import prune_command

app = Program("Train, prune, evaluate and compare networks.")
app.command("teacher")(teacher_command)
app.command("student")(student_command)
app.command("baseline")(baseline_command)
app.command("prune")(prune_command)
app.command("evaluate")(evaluate_command)
app.command("compare")(compare_command)
app.command("align")(align_command)

if __name__ == "__main__":
    run_app(app)
