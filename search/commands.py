"""What the commands of `python -m search` do; `__main__` gives them their names.

What needs PyTorch is imported where a command runs, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.commandline import ConfigOption, OutOption, SetOption, TableOption, say
from fasterseg.base.experiment import load_experiment


def pretrain_command(config: ConfigOption, settings: SetOption = None, out: OutOption = None) -> None:
    """Pretrain the supernet's weights; goes on where a run was cut off.

    Example: python -m search pretrain --config configs/toy.yaml
    """
    from search import pretrain

    experiment = load_experiment(config, settings or [], pretrain.SECTIONS)
    best = pretrain.run_pretrain(experiment, out=out or experiment.stage_folder(pretrain.STAGE))
    say(f"wrote {best} and its run folder {best.parent}", f"next: python -m search search --config {config}")


def search_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    table: TableOption = None,
    pretrained: Annotated[
        Path | None, typer.Option("--pretrained", help="The pretrained supernet's best.pt; the stage's when not given.")
    ] = None,
) -> None:
    """Search the teacher's and the student's architecture; goes on where a run was cut off.

    Example: python -m search search --config configs/toy.yaml
    """
    from latency.table import TABLE_NAME
    from search import pretrain, trainer

    experiment = load_experiment(config, settings or [], trainer.SECTIONS)
    folder = trainer.run_search(
        experiment,
        out=out or experiment.stage_folder(trainer.STAGE),
        table_path=table or experiment.stage_folder("latency") / TABLE_NAME,
        pretrained_path=pretrained or experiment.stage_folder(pretrain.STAGE) / "best.pt",
    )
    say(
        f"wrote architecture_teacher.json, architecture_student.json and plots/ in {folder}",
        f"next: python -m train teacher --config {config}",
    )
