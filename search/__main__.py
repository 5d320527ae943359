"""Entry point of `python -m search`."""

import typer

from fasterseg.base.commandline import run_app
from search.commands import pretrain_command, search_command

app = typer.Typer(
    help="Pretrain the supernet and search architectures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("pretrain")(pretrain_command)
app.command("search")(search_command)

if __name__ == "__main__":
    run_app(app)
