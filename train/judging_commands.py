"""The commands of `python -m train` that evaluate and compare networks; `__main__` names them.

Modules that need PyTorch are imported inside the commands, so that `--help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dataset_tools.config import DatasetConfig
from fasterseg.base.commandline import (
    REPEATED,
    RUNNER_FORM,
    ConfigOption,
    DeviceOption,
    ImageSize,
    OutOption,
    RunnersOption,
    SetOption,
    SplitOption,
    ThreadsOption,
    say,
    size_option,
)
from fasterseg.base.devices import ComparingPrecision, Device
from fasterseg.base.experiment import Experiment, load_experiment
from latency.config import Precision, TargetConfig
from train.config import StageName, stage_config, stage_folder

if TYPE_CHECKING:
    from latency.deployment import Deployment

DIFFERENCE_EXIT_CODE = 1
_LISTED_DIFFERENCES = 12
_ONNX_SUFFIX = ".onnx"


def evaluate_command(
    config: ConfigOption,
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A best.pt or an exported file; the stage's when not given.")
    ] = None,
    settings: SetOption = None,
    out: OutOption = None,
    stage: Annotated[StageName, typer.Option(help="Stage whose network and image scale are used.")] = "student",
    split: SplitOption = None,
    window: Annotated[ImageSize | None, size_option("--window", "Slide windows of this size in pixels.")] = None,
    overlap: Annotated[
        float, typer.Option(help="Fraction of a window that overlaps the next one.", show_default="1/3")
    ] = 1 / 3,
    flip: Annotated[bool, typer.Option("--flip", help="Average predictions with those of the mirrored image.")] = False,
    scale: Annotated[
        list[float] | None, typer.Option(help=f"Scale of a copy whose predictions are averaged; {REPEATED}.")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    runner: Annotated[
        str | None,
        typer.Option(help=f"Run the model by this runner ({RUNNER_FORM}) at target.input_size, not by PyTorch."),
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="Number format of --runner; target.precision when not given.")
    ] = None,
    followed: Annotated[
        Path | None, typer.Option("--follow", help="Evaluate every new checkpoint of this run folder until it ends.")
    ] = None,
    every_s: Annotated[float, typer.Option("--every-s", help="Seconds between checks of the followed run.")] = 10.0,
    once: Annotated[bool, typer.Option("--once", help="With --follow: evaluate only the current checkpoint.")] = False,
) -> None:
    """Measure mIoU, IoU per class, pixel accuracy and the confusion matrix on a split.

    Example: python -m train evaluate student.onnx --config configs/toy.yaml
    """
    from fasterseg.engine.evaluation import InferenceMode
    from fasterseg.runtime.load import choose_device
    from train import evaluate

    experiment = load_experiment(config, settings or [], evaluate.SECTIONS)
    if followed is not None:
        if model is not None or runner is not None:
            raise ValueError("--follow evaluates the run's own checkpoints by PyTorch; leave MODEL and --runner out")
        _follow(experiment, followed, out, every_s, once, device)
        return
    model_path = model or stage_folder(experiment, stage) / "best.pt"
    deployment = _deployment(experiment, runner, precision, device)
    evaluation = evaluate.Evaluation(
        model=model_path,
        split=split or experiment.section("dataset", DatasetConfig).validation_split,
        image_scale=stage_config(experiment, stage).image_scale,
        mode=InferenceMode(
            window_size_px=window, window_overlap=overlap, flip=flip, scales=tuple(scale) if scale else (1.0,)
        ),
        device=choose_device(device, model_path),
        threads=threads,
        deployment=deployment,
    )
    folder = out or experiment.stage_folder(evaluate.STAGE) / evaluation.condition
    evaluate.run_evaluate(experiment, evaluation, out=folder)
    say(f"wrote {folder}/: summary.json, classes.csv, confusion.csv, confusion.png")
    if model_path.suffix == _ONNX_SUFFIX:
        say(f"next: fasterseg predict {model_path} IMAGES --out predictions")
    else:
        say(f"next: fasterseg export {model_path} --out {model_path.with_suffix(_ONNX_SUFFIX)}")


def _follow(
    experiment: Experiment, followed: Path, out: Path | None, every_s: float, once: bool, device: Device
) -> None:
    """Evaluates another run's checkpoints as they are written."""
    from fasterseg.runtime.load import choose_device
    from train import follow

    following = follow.Following(followed, every_s=every_s, once=once, device=choose_device(device))
    folder = out or experiment.stage_folder(follow.STAGE) / followed.resolve().name
    epochs = follow.run_follow(experiment, following, out=folder)
    say(f"evaluated {len(epochs)} checkpoint(s)", f"next: tensorboard --logdir {folder}")


def _deployment(
    experiment: Experiment, runner: str | None, precision: Precision | None, device: Device
) -> "Deployment | None":
    """The runner that the command line names, with its input size; None for PyTorch."""
    if runner is None:
        if precision is not None:
            raise ValueError("--precision is a runner's; name that with --runner, such as --runner openvino")
        return None
    if device != "auto":
        raise ValueError("--device is where PyTorch runs a checkpoint; with --runner, set target.device instead")
    from latency.deployment import Deployment
    from latency.runners.selection import choose_runners

    target = experiment.section("target", TargetConfig)
    if precision is not None:
        target = target.model_copy(update={"precision": precision})
    (chosen,) = choose_runners(target, [runner])
    say(f"running with {chosen.reason}, {chosen.runner.precision}")
    return Deployment(chosen.runner, target.input_size)


def compare_command(
    networks: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Run folders, best.pt or .onnx files, presets; NAME=MODEL names one."),
    ],
    config: ConfigOption,
    settings: SetOption = None,
    out: OutOption = None,
    runners: RunnersOption = None,
    stage: Annotated[StageName, typer.Option(help="Stage whose image scale is used.")] = "student",
    split: SplitOption = None,
) -> None:
    """Compare networks on one dataset and one target: accuracy, size and time in one table and one plot.

    Example: python -m train compare runs/camvid/student runs/camvid/baselines/icnet --config configs/camvid.yaml
    """
    from train import compare

    experiment = load_experiment(config, settings or [], compare.SECTIONS)
    folder = out or experiment.stage_folder(compare.STAGE)
    compare.run_compare(
        experiment,
        compare.find_candidates(networks),
        out=folder,
        image_scale=stage_config(experiment, stage).image_scale,
        split=split or experiment.section("dataset", DatasetConfig).validation_split,
        runners=runners or (),
    )
    say(f"wrote {folder}/: comparison.csv, comparison.md, comparison.json and a plot for each runner")


def align_command(
    first: Annotated[Path, typer.Argument(metavar="MODEL", help="A best.pt.")],
    second: Annotated[
        Path | None, typer.Argument(metavar="OTHER", help="What to compare with: a best.pt, or recorded arrays (.npz).")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="Experiment file whose images are the batch; random when not given.")
    ] = None,
    settings: SetOption = None,
    record: Annotated[Path | None, typer.Option(help="Write MODEL's arrays to this .npz file.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write all differences to this JSON file.")] = None,
    precision: Annotated[ComparingPrecision, typer.Option(help="Number format of both computations.")] = "fp64",
    tolerance: Annotated[float, typer.Option(help="Largest relative difference of logits, loss and metric.")] = 1e-4,
    gradient_tolerance: Annotated[float, typer.Option(help="Largest relative difference of gradients.")] = 1e-3,
) -> None:
    """Check that two networks compute the same on one batch: logits, loss, metric, gradients, batch norm statistics.

    Exits with 1 where they do not. Example: python -m train align mine.pt reference.npz
    """
    from dataset_tools.description import load_description
    from fasterseg.runtime.load import load_checkpoint
    from train import align, compare

    if (second is None) == (record is None):
        raise ValueError("name what to compare with, or --record FILE to write the arrays; one of both")
    batch = None
    if config is not None:
        if second is not None and second.suffix.lower() == align.ARRAYS_SUFFIX:
            raise ValueError(f"{second} brings the batch that it was recorded on; leave --config out")
        experiment = load_experiment(config, settings or [], compare.SECTIONS)
        data = experiment.section("dataset", DatasetConfig)
        scale = stage_config(experiment, "student").image_scale
        batch = align.dataset_batch(load_description(data.root), split=data.validation_split, image_scale=scale)
    if record is not None:
        checkpoint = load_checkpoint(first)
        batch = batch or align.random_batch(checkpoint, checkpoint.input_size)
        align.record_arrays(record, batch, align.compute_arrays(checkpoint, batch, precision=precision))
        say(f"wrote {record}", f"next: python -m train align OTHER {record}")
        return
    assert second is not None
    tolerances = align.Tolerances(tolerance, gradient_tolerance)
    result = align.align(first, second, batch=batch, precision=precision, tolerances=tolerances)
    for each in align.worst(result.failures or result.differences, _LISTED_DIFFERENCES):
        say(f"{each.name}: relative difference {each.relative:.3g} {each.note}".rstrip())
    if report is not None:
        result.write(report)
    say(f"{len(result.failures)} of {len(result.differences)} quantities differ by more than the tolerance")
    if result.failures:
        raise typer.Exit(DIFFERENCE_EXIT_CODE)
