"""Entry point of `python -m search`."""

from fasterseg.base.commandline import Program, run_app
from search.commands import pretrain_command, search_command

app = Program("Pretrain the supernet and search architectures.")
app.command("pretrain")(pretrain_command)
app.command("search")(search_command)

if __name__ == "__main__":
    run_app(app)
