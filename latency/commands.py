"""What the commands of `python -m latency` do; `__main__` gives them their names.

What needs PyTorch is imported where a command runs, so that `--help` answers at once.
"""

from pathlib import Path
from typing import Annotated

import typer

from fasterseg.base.commandline import (
    REPEATED,
    ConfigOption,
    NumClassesOption,
    OutOption,
    OverwriteOption,
    RunnersOption,
    SetOption,
    TableOption,
    say,
)
from fasterseg.base.experiment import Experiment, dataset_num_classes, load_experiment
from latency.config import LatencyConfig, TargetConfig

MISSED_BOUND_EXIT_CODE = 1
_NPY_SUFFIX = ".npy"


def table_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    only_missing: Annotated[
        bool, typer.Option("--only-missing", help="Add what an existing table lacks, and keep what it has.")
    ] = False,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            help="A network outside the space whose operators to measure too: a preset, an architecture file, a "
            "best.pt or an exported .onnx; " + REPEATED,
        ),
    ] = None,
    num_classes: NumClassesOption = None,
) -> None:
    """Measure every operator that the space can reach; goes on where a run was cut off.

    Example: python -m latency table --config configs/toy.yaml
    """
    from latency import build
    from latency.deployment import find_architecture

    experiment = load_experiment(config, settings or [], build.SECTIONS)
    num_classes = num_classes or dataset_num_classes(experiment)
    path = build.run_table(
        experiment,
        out=out or experiment.stage_folder(build.STAGE),
        num_classes=num_classes,
        networks=[find_architecture(name, num_classes=num_classes) for name in networks or []],
        only_missing=only_missing,
    )
    say(f"wrote {path}", f"next: python -m search pretrain --config {config}")


def validate_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    table: TableOption = None,
    count: Annotated[int, typer.Option("--count", help="How many networks to measure.")] = 50,
    mape_bound: Annotated[
        float | None, typer.Option("--mape-bound", help="The largest mean error, such as 0.02 for 2 %.")
    ] = None,
    max_bound: Annotated[float | None, typer.Option("--max-bound", help="The largest single error.")] = None,
    spearman_bound: Annotated[
        float | None, typer.Option("--spearman-bound", help="The smallest rank correlation.")
    ] = None,
) -> None:
    """Hold the table's predictions against random networks that its fit has not seen; exit code 1 if a bound is missed.

    Example: python -m latency validate --config configs/toy.yaml --mape-bound 0.02
    """
    from fasterseg.networks.space import SpaceConfig
    from latency import build
    from latency.table import LatencyTable
    from latency.validate import AgreementBounds, validate_table

    experiment = load_experiment(config, settings or [], build.SECTIONS)
    loaded = LatencyTable.load(table or usual_table(experiment))
    validation = validate_table(
        loaded,
        experiment.section("target", TargetConfig),
        space=experiment.section("space", SpaceConfig),
        protocol=experiment.section("latency", LatencyConfig),
        count=count,
    )
    say(validation.describe())
    for path in validation.save(out or experiment.stage_folder(build.STAGE)):
        say(f"wrote {path}")
    missed = validation.scores.missed(AgreementBounds(mape_bound, max_bound, spearman_bound))
    for miss in missed:
        say(f"MISSED: {miss}")
    if missed:
        raise typer.Exit(MISSED_BOUND_EXIT_CODE)
    say(f"next: python -m search pretrain --config {config}")


def measure_command(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Each an architecture (.json), an exported file (.onnx), a best.pt or a preset, such as icnet.",
        ),
    ],
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    table: TableOption = None,
    runners: RunnersOption = None,
    layers: Annotated[bool, typer.Option("--layers", help="Profile each network layer by layer, too.")] = False,
    num_classes: NumClassesOption = None,
) -> None:
    """Time whole networks, in one interleaved run, and compare them with the table's prediction.

    Example: python -m latency measure runs/toy/search/architecture_student.json icnet --config configs/toy.yaml
    """
    from latency import build, measure, results

    experiment = load_experiment(config, settings or [], build.SECTIONS)
    usual = usual_table(experiment)
    table_path = table or (usual if usual.is_file() else None)
    measured = measure.run_measure(
        experiment,
        networks,
        runners=runners or [],
        table_path=table_path,
        needs_table=table is not None,
        num_classes=num_classes,
        with_layers=layers,
    )
    folder = out or experiment.stage_folder(build.STAGE)
    say(*(row.describe() for row in measured.rows))
    if len(measured.rows) > 1:
        results.print_comparison(measured.rows)
    if table_path is None:
        say(f"no table at {usual} to compare with: python -m latency table --config {config}")
    paths = results.save_comparison(measured.rows, folder)
    for row, profile in zip(measured.rows, measured.layers, strict=layers):
        if profile.problem is not None:
            say(f"no times of layers for {row.name} on {row.runner}: {profile.problem}")
            continue
        results.print_layers(row, profile.times)
        paths.append(results.save_layers(row, profile.times, folder))
    say(*(f"wrote {path}" for path in paths), f"next: python -m train student --config {config}")


def import_command(
    source: Annotated[Path, typer.Argument(help="The released latency_lookup_table.npy; nothing in it is executed.")],
    out: Annotated[Path, typer.Option(help="The table to write, a .json file.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Import the released program's latency table: GTX 1080 Ti, TensorRT 5.1, 1024x2048, 19 classes.

    Example: python -m latency import latency_lookup_table.npy --out released_table.json
    """
    from latency.published import import_table

    _keep_existing(out, overwrite=overwrite)
    table = import_table(source)
    table.save(out)
    say(f"imported {len(table.entries)} entries; resizes, which the released table leaves out, count nothing")
    say(f"wrote {out}", f"next: python -m latency export {out} --out {out.with_suffix(_NPY_SUFFIX)} writes it back")


def export_command(
    table: Annotated[Path, typer.Argument(help="A latency table of ours.")],
    out: Annotated[Path, typer.Option(help="The .npy file to write.")],
    overwrite: OverwriteOption = False,
) -> None:
    """Write a table in the released program's form, a dict of its keys to milliseconds in a .npy file.

    Example: python -m latency export runs/toy/latency/latency_table.json --out latency_lookup_table.npy
    """
    from latency.published import export_table
    from latency.table import LatencyTable

    if out.suffix != _NPY_SUFFIX:
        raise ValueError(f"--out {out}: expected a name that ends in {_NPY_SUFFIX}")
    _keep_existing(out, overwrite=overwrite)
    left_out = export_table(LatencyTable.load(table), out)
    if left_out:
        say(f"left out, because that form has no key for them: {', '.join(spec.key for spec in left_out)}")
    say(f"wrote {out}")


def usual_table(experiment: Experiment) -> Path:
    """Where an experiment's table lies."""
    from latency.build import STAGE
    from latency.table import TABLE_NAME

    return experiment.stage_folder(STAGE) / TABLE_NAME


def _keep_existing(out: Path, *, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists already; choose another --out, or pass --overwrite to replace it")
