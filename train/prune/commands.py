"""The command `python -m train prune`, and its questions to the user.

Modules that need PyTorch are imported inside the command, so that `--help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fasterseg.base.commandline import OutOption, SetOption, TableOption, say
from fasterseg.base.experiment import load_experiment

if TYPE_CHECKING:
    from train.prune.filters import FilterGroup

_BARS = "▁▂▃▄▅▆▇█"
_BAR_COUNT = 32


def prune_command(
    checkpoint: Annotated[Path, typer.Argument(metavar="MODEL", help="A best.pt of any family.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="The experiment file: to score, time, train and fit a budget.")
    ] = None,
    settings: SetOption = None,
    out: OutOption = None,
    factor: Annotated[
        float | None,
        typer.Option(help="Part of the filters to keep, in (0, 1]; 0.5, or the most that --budget-ms allows."),
    ] = None,
    ranking: Annotated[
        Literal["layer", "global"], typer.Option(help="Filters compete in their layer, or over the network.")
    ] = "layer",
    progressive: Annotated[
        bool, typer.Option("--progressive", help="Remove half, train, then remove the rest.")
    ] = False,
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Show each layer and ask how many to keep.")
    ] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Zero the filters instead of removing them.")] = False,
    budget_ms: Annotated[
        float | None, typer.Option("--budget-ms", help="Largest factor whose predicted time is within this.")
    ] = None,
    table: TableOption = None,
) -> None:
    """Remove the filters with the smallest L1 norms from a trained network.

    Example: python -m train prune runs/camvid/baselines/icnet/best.pt --config configs/camvid.yaml
    """
    from fasterseg.runtime.load import load_checkpoint
    from latency.table import TABLE_NAME
    from train.prune.factor import Budget
    from train.prune.run import SECTIONS, STAGE, PruneRequest, run_prune, training_stage

    if config is None and settings:
        raise ValueError("--set is given without --config; there is no experiment file to change")
    experiment = None if config is None else load_experiment(config, settings or [], SECTIONS)
    budget = None
    if budget_ms is not None:
        if experiment is None:
            raise ValueError("--budget-ms needs an experiment file with the target; give it with --config")
        budget = Budget(budget_ms, table or experiment.stage_folder("latency") / TABLE_NAME)
    if factor is None:
        factor = 0.5 if budget is None else 1.0
    request = PruneRequest(
        checkpoint, factor=factor, ranking=ranking, progressive=progressive, soft=soft, budget=budget
    )
    how = f"{factor:g}" if budget is None else f"{budget.budget_ms:g}ms"
    name = f"{checkpoint.resolve().parent.name}_{how}"
    folder = out or (Path("runs") / STAGE / name if experiment is None else experiment.stage_folder(STAGE) / name)
    run_prune(request, out=folder, experiment=experiment, choose=ask_for_count if interactive else None)
    say(f"wrote {folder}/: best.pt, architecture.json, kept_filters.json, filter_norms.png, report.md, report.json")
    if config is not None:
        stage = training_stage(load_checkpoint(checkpoint))
        command = "student" if stage == "student" else f"baseline {stage}"
        say(f"next: python -m train {command} --config {config} --start-from {folder}/best.pt --out {folder}/retrained")


def ask_for_count(group: "FilterGroup", proposed: int) -> int:
    """Shows a group's sorted norms and asks how many of its filters to keep."""
    import numpy as np

    norms = np.sort(group.norms)[::-1]
    shown = norms[np.linspace(0, len(norms) - 1, min(_BAR_COUNT, len(norms))).round().astype(int)]
    levels = (shown / max(float(norms[0]), 1e-12) * (len(_BARS) - 1)).round().astype(int)
    coupled = f", coupled: {', '.join(group.convolutions[1:])}" if len(group.convolutions) > 1 else ""
    say(
        f"{group.name}: {group.size} filters{coupled}",
        f"  L1 norms {''.join(_BARS[level] for level in levels)} from {norms[0]:.4g} to {norms[-1]:.4g}; at the cut "
        f"{norms[proposed - 1]:.4g}",
    )
    while not 1 <= (count := int(typer.prompt("  keep", default=proposed, type=int))) <= group.size:
        say(f"  {count} is not possible; from 1 to {group.size}")
    return count
