"""What the commands of `python -m train` do; `__main__` gives them their names."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dataset_tools.config import DatasetConfig
from fasterseg.engine.commandline import ConfigOption, OutOption, SetOption, say
from fasterseg.engine.config import load_experiment
from fasterseg.engine.evaluation import InferenceMode
from fasterseg.runtime.load import Device
from train import evaluate, student, teacher
from train.config import TrainConfig

ArchitectureFile = Annotated[
    Path | None, typer.Option("--architecture", help="Architecture file; the search's when not given.")
]


def teacher_command(
    config: ConfigOption, settings: SetOption = None, out: OutOption = None, architecture: ArchitectureFile = None
) -> None:
    """Train the searched teacher network; goes on where a run was cut off.

    Example: python -m train teacher --config configs/toy.yaml
    """
    experiment = load_experiment(config, settings or [], teacher.SECTIONS)
    best = teacher.run_teacher(
        experiment,
        out=out or experiment.stage_folder(teacher.STAGE),
        architecture_path=architecture or experiment.stage_folder("search") / "architecture_teacher.json",
    )
    say(f"wrote {best} and its run folder {best.parent}", f"next: python -m train student --config {config}")


def student_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    architecture: ArchitectureFile = None,
    teacher_checkpoint: Annotated[
        Path | None, typer.Option("--teacher", help="The teacher's best.pt; the teacher stage's when not given.")
    ] = None,
) -> None:
    """Train the searched student network with the teacher's help; goes on where a run was cut off.

    Example: python -m train student --config configs/toy.yaml
    """
    experiment = load_experiment(config, settings or [], student.SECTIONS)
    best = student.run_student(
        experiment,
        out=out or experiment.stage_folder(student.STAGE),
        architecture_path=architecture or experiment.stage_folder("search") / "architecture_student.json",
        teacher_path=teacher_checkpoint or experiment.stage_folder(teacher.STAGE) / "best.pt",
    )
    say(
        f"wrote {best} and its run folder {best.parent}",
        f"next: fasterseg export {best} --out {best.with_suffix('.onnx')}",
        f"or: python -m train evaluate --config {config} --checkpoint {best}",
    )


def evaluate_command(
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    stage: Annotated[Literal["teacher", "student"], typer.Option(help="Whose network and image scale.")] = "student",
    checkpoint: Annotated[Path | None, typer.Option(help="A best.pt; the stage's when not given.")] = None,
    exported: Annotated[Path | None, typer.Option(help="Run this exported file instead of a checkpoint.")] = None,
    split: Annotated[str | None, typer.Option(help="Split of the dataset; the validation split if not given.")] = None,
    window: Annotated[
        tuple[int, int] | None, typer.Option(metavar="HEIGHT WIDTH", help="Slide windows of this size in pixels.")
    ] = None,
    overlap: Annotated[float, typer.Option(help="Part of a window that the next one repeats.")] = 1 / 3,
    flip: Annotated[bool, typer.Option("--flip", help="Let the mirrored image vote too.")] = False,
    scale: Annotated[list[float] | None, typer.Option(help="Factor of a copy that votes; repeatable.")] = None,
    device: Annotated[Device, typer.Option(help="Where a checkpoint runs.")] = "cpu",
) -> None:
    """Measure mIoU, IoU per class, pixel accuracy and the confusion matrix on a split.

    Example: python -m train evaluate --config configs/toy.yaml --exported student.onnx
    """
    if checkpoint is not None and exported is not None:
        raise ValueError("--checkpoint and --exported are both given; name one model to evaluate")
    experiment = load_experiment(config, settings or [], evaluate.SECTIONS)
    section = experiment.section(stage, TrainConfig)
    evaluation = evaluate.Evaluation(
        model=exported or checkpoint or experiment.stage_folder(stage) / "best.pt",
        split=split or experiment.section("dataset", DatasetConfig).validation_split,
        image_scale=section.image_scale,
        mode=InferenceMode(
            window_size_px=window, window_overlap=overlap, flip=flip, scales=tuple(scale) if scale else (1.0,)
        ),
        device=device,
    )
    folder = out or experiment.stage_folder(evaluate.STAGE) / evaluation.condition
    evaluate.run_evaluate(experiment, evaluation, out=folder)
    say(f"wrote {folder}/: summary.json, classes.csv, confusion.csv, confusion.png")
    if exported is None:
        say(f"next: fasterseg export {evaluation.model} --out {evaluation.model.with_suffix('.onnx')}")
    else:
        say(f"next: fasterseg predict {exported} IMAGES --out predictions")
