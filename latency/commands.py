"""What the commands of `python -m latency` do; `__main__` gives them their names."""

from pathlib import Path
from typing import Annotated

import typer

from fasterseg.engine.commandline import ConfigOption, OutOption, SetOption, say
from fasterseg.engine.config import load_experiment
from latency import build, measure
from latency.table import TABLE_NAME


def table_command(config: ConfigOption, settings: SetOption = None, out: OutOption = None) -> None:
    """Measure every operator that the space can reach; goes on where a run was cut off.

    Example: python -m latency table --config configs/toy.yaml
    """
    experiment = load_experiment(config, settings or [], build.SECTIONS)
    path = build.run_table(experiment, out=out or experiment.stage_folder(build.STAGE))
    say(f"wrote {path}", f"next: python -m search pretrain --config {config}")


def measure_command(
    network: Annotated[Path, typer.Argument(help="An architecture (.json), an exported file (.onnx) or a best.pt.")],
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    table: Annotated[
        Path | None, typer.Option("--table", help="The table to predict from; the experiment's, if it is there.")
    ] = None,
) -> None:
    """Time a whole network on the target and compare it with the table's prediction.

    Example: python -m latency measure runs/toy/search/architecture_student.json --config configs/toy.yaml
    """
    experiment = load_experiment(config, settings or [], build.SECTIONS)
    usual_table = experiment.stage_folder(build.STAGE) / TABLE_NAME
    table_path = table or (usual_table if usual_table.is_file() else None)
    # every stage calls its network best.pt, so a checkpoint goes by its folder's name
    name = network.parent.name if network.suffix == ".pt" else network.stem
    result = (out or experiment.stage_folder(build.STAGE)) / f"measured_{name}.json"
    measured = measure.run_measure(experiment, network, table_path=table_path, out=result)
    say(measured.describe())
    if table_path is None:
        say(f"no table at {usual_table} to compare with: python -m latency table --config {config}")
    say(f"wrote {result}", f"next: python -m train student --config {config}")
