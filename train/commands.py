"""The commands of `python -m train` that train networks; `__main__` names them.

Modules that need PyTorch are imported inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tools.config import DatasetConfig
from fasterseg.base.commandline import ConfigOption, OutOption, SetOption, say
from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.networks.presets import PRESETS, architecture_path
from train.config import BaselineName, StudentConfig, stage_folder

if TYPE_CHECKING:
    from train.start import NetworkStart

ArchitectureName = Annotated[
    str | None,
    typer.Option(
        "--architecture", help=f"Architecture file, or one of {', '.join(PRESETS)}; the search's if not given."
    ),
]
StartFrom = Annotated[
    Path | None,
    typer.Option("--start-from", help="Checkpoint whose training to continue, such as a pruned one."),
]


def teacher_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    architecture: ArchitectureName = None,
    start_from: StartFrom = None,
) -> None:
    """Train the searched teacher network; resumes an interrupted run.

    Example: python -m train teacher --config configs/toy.yaml
    """
    from train import stages

    experiment = load_experiment(config, settings or [], stages.TEACHER_SECTIONS)
    best = stages.run_teacher(
        experiment,
        out=out or experiment.stage_folder(stages.TEACHER),
        start=_start(experiment, "teacher", architecture=architecture, start_from=start_from),
    )
    say(f"wrote {best} and its run folder {best.parent}", f"next: python -m train student --config {config}")


def student_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    architecture: ArchitectureName = None,
    teacher_checkpoint: Annotated[
        Path | None, typer.Option("--teacher", help="The teacher's best.pt; that of student.teacher when not given.")
    ] = None,
    start_from: StartFrom = None,
) -> None:
    """Train the searched student network with its teacher's logits; resumes an interrupted run.

    Example: python -m train student --config configs/toy.yaml
    """
    from train import stages

    experiment = load_experiment(config, settings or [], stages.STUDENT_SECTIONS)
    teacher_run = stage_folder(experiment, experiment.section(stages.STUDENT, StudentConfig).teacher)
    best = stages.run_student(
        experiment,
        out=out or experiment.stage_folder(stages.STUDENT),
        start=_start(experiment, "student", architecture=architecture, start_from=start_from),
        teacher_path=teacher_checkpoint or teacher_run / "best.pt",
    )
    say(
        f"wrote {best} and its run folder {best.parent}",
        f"next: fasterseg export {best} --out {best.with_suffix('.onnx')}",
        f"or: python -m train evaluate {best} --config {config}",
    )


def baseline_command(
    name: Annotated[BaselineName, typer.Argument(help="Which baseline.")],
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    start_from: Annotated[
        Path | None,
        typer.Option("--start-from", help="Checkpoint of this baseline, pruned or not; for ICNet also of a PSPNet50."),
    ] = None,
) -> None:
    """Train PSPNet50 or ICNet by its recipe in `baselines`; resumes an interrupted run.

    Example: python -m train baseline icnet --config configs/camvid.yaml
    """
    from train import stages

    experiment = load_experiment(config, settings or [], stages.BASELINE_SECTIONS)
    best = stages.run_baseline(experiment, name, out=out or stage_folder(experiment, name), start_from=start_from)
    say(
        f"wrote {best} and its run folder {best.parent}",
        f"next: python -m train compare {best.parent} runs/{experiment.name}/student --config {config}",
        f"or: python -m train prune {best} --config {config} --factor 0.5",
    )


def _start(experiment: Experiment, role: str, *, architecture: str | None, start_from: Path | None) -> "NetworkStart":
    """The start of a searched network: an architecture (by default the search's), or a checkpoint."""
    from dataset_tools.description import load_description
    from train.start import start_fresh, start_from_checkpoint

    if start_from is None:
        return start_fresh(
            architecture_path(architecture or experiment.stage_folder("search") / f"architecture_{role}.json")
        )
    if architecture is not None:
        raise ValueError("--architecture and --start-from are both given; a checkpoint has its own architecture")
    num_classes = load_description(experiment.section("dataset", DatasetConfig).root).num_classes
    return start_from_checkpoint(start_from, num_classes=num_classes)
