"""The training stages: teacher, student and baselines, each from its start to its summary.

All of them use `train_network`. It reads the dataset, opens the run folder, runs or resumes `trainer.NetworkStage` in
the engine's loop, and writes a summary of the best network.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import write_text
from fasterseg.engine.checkpoint import NetworkCheckpoint, load_network
from fasterseg.engine.devices import build_fabric
from fasterseg.engine.loop import StageResult, run_stage
from fasterseg.engine.memory import peak_memory_bytes
from fasterseg.engine.run_folder import RunFolder, open_run_folder
from fasterseg.engine.start import begin_stage, stage_settings
from fasterseg.networks import measure_size
from latency.config import TargetConfig
from train.config import BaselineName, BaselinesConfig, StudentConfig, TeacherConfig, TrainConfig, baseline_config
from train.data import build_stage_data, splits_read
from train.distillation import Distillation, load_distillation
from train.recipe import check_batch_norm
from train.start import NetworkStart, start_baseline
from train.trainer import NetworkStage

ARCHITECTURE_NAME = "architecture.json"
TEACHER, STUDENT, BASELINES = "teacher", "student", "baselines"
_SHARED_SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "target": TargetConfig}
TEACHER_SECTIONS: dict[str, type[BaseModel]] = {**_SHARED_SECTIONS, TEACHER: TeacherConfig}
STUDENT_SECTIONS: dict[str, type[BaseModel]] = {**_SHARED_SECTIONS, STUDENT: StudentConfig}
BASELINE_SECTIONS: dict[str, type[BaseModel]] = {**_SHARED_SECTIONS, BASELINES: BaselinesConfig}


def run_teacher(experiment: Experiment, *, out: Path, start: NetworkStart) -> Path:
    """Trains the teacher, or resumes its training.

    Args:
        experiment: Read with `TEACHER_SECTIONS`.
        out: The run folder.
        start: The initial network: `start_fresh` of the search's `architecture_teacher.json`, or a checkpoint.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: The dataset does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    config = experiment.section(TEACHER, TeacherConfig)
    return train_network(experiment, config, stage=TEACHER, out=out, start=start)


def run_student(experiment: Experiment, *, out: Path, start: NetworkStart, teacher_path: Path | None) -> Path:
    """Trains the student on the images and on the teacher's logits, or resumes its training.

    Args:
        experiment: Read with `STUDENT_SECTIONS`.
        out: The run folder.
        start: The initial network: `start_fresh` of the search's `architecture_student.json`, or a checkpoint.
        teacher_path: The teacher's `best.pt`; None (with `student.distillation_weight` 0) trains without one.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: Teacher or dataset is missing.
        ValueError: One of them does not fit (such as a teacher of another class count), `out` belongs to another
            experiment, a loss is not finite, or the teacher's logits are to be cached for random crops.
    """
    config = experiment.section(STUDENT, StudentConfig)
    distillation = None
    if config.distillation_weight:
        if teacher_path is None:
            raise ValueError(
                f"student.distillation_weight is {config.distillation_weight}, but no teacher is given; "
                "name the teacher's best.pt, or set student.distillation_weight=0"
            )
        distillation = load_distillation(teacher_path, ExperimentData.load(experiment), config, out=out)
    return train_network(experiment, config, stage=STUDENT, out=out, start=start, distillation=distillation)


def run_baseline(experiment: Experiment, name: BaselineName, *, out: Path, start_from: Path | None = None) -> Path:
    """Trains a baseline by its own recipe, or resumes its training.

    ICNet trains in one stage from ImageNet weights, or in two: from a trained PSPNet50's backbone, and again after
    pruning.

    Args:
        experiment: Read with `BASELINE_SECTIONS`.
        name: Which baseline.
        out: The run folder.
        start_from: A checkpoint to start from; the section's when None.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: The dataset, the ImageNet weights or the checkpoint to start from is missing.
        ValueError: One of them does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    config = baseline_config(experiment, name)
    num_classes = ExperimentData.load(experiment).description.num_classes
    start = start_baseline(name, config, num_classes=num_classes, start_from=start_from)
    return train_network(experiment, config, stage=f"{BASELINES}.{name}", out=out, start=start)


def train_network(
    experiment: Experiment,
    config: TrainConfig,
    *,
    stage: str,
    out: Path,
    start: NetworkStart,
    distillation: Distillation | None = None,
) -> Path:
    """Runs a training stage to its end, from its start or from its last state.

    Args:
        experiment: Read with the sections `dataset` and `target` and the stage's own.
        config: The stage's section.
        stage: Name of the stage.
        out: The stage's run folder.
        start: The initial network.
        distillation: The teacher, if there is one.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: It does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    data, seed = ExperimentData.load(experiment), experiment.seed
    input_size = experiment.section("target", TargetConfig).input_size
    origins = dict(start.origins) | ({} if distillation is None else {"teacher": distillation.origin})
    fabric = build_fabric(config.device)
    check_batch_norm(config, fabric)
    settings = stage_settings(
        stage,
        config,
        fabric=fabric,
        seed=seed,
        dataset=data.settings(),
        target={"input_size": input_size},
        origins={"dataset": data.description.digest(), **origins},
    )
    with open_run_folder(out, stage=stage, settings=settings, fabric=fabric) as run_folder:
        check = partial(data.check, splits_read(data.config, config))
        if not begin_stage(run_folder, run_folder.best, fabric=fabric, seed=seed, check=check):
            return run_folder.best
        stage_data = build_stage_data(data, config=config, fabric=fabric, seed=seed)
        if run_folder.writes:
            # `train evaluate --follow` builds the network from this file
            write_text(out / ARCHITECTURE_NAME, json.dumps(start.architecture.to_dict(), indent=2) + "\n")
        network_stage = NetworkStage(
            start.build(data.description.num_classes),
            config=config,
            data=stage_data,
            template=NetworkCheckpoint(start.architecture, stage_data.facts, input_size, weights={}, origins=origins),
            fabric=fabric,
            run_folder=run_folder,
            distillation=distillation,
        )
        result = run_stage(
            network_stage,
            stage_data.training,
            run_folder,
            fabric=fabric,
            epochs=config.epochs,
            validate_every=config.validate_every,
            log_every=config.log_every,
            save_every_minutes=config.save_every_minutes,
        )
        _log_peak_memory(run_folder, config, device=fabric.device)
        if run_folder.writes:
            run_folder.finish(summarize(result, run_folder.best, config=config))
        fabric.barrier()
    return run_folder.best


def _log_peak_memory(run_folder: RunFolder, config: TrainConfig, *, device: torch.device) -> None:
    peak = peak_memory_bytes(device)
    if peak is not None:
        saving = "on" if config.memory_saving else "off"
        run_folder.log(f"peak memory {peak / 2**30:.2f} GiB on {device.type}, memory saving {saving}")


def summarize(result: StageResult, best: Path, *, config: TrainConfig) -> dict[str, Any]:
    """The summary of a finished stage: scores of the best epoch, size of its network, time."""
    checkpoint = load_network(best)
    size = measure_size(checkpoint.build(), checkpoint.input_size)
    per_class = {
        name.removeprefix("iou/"): value for name, value in result.best_figures.items() if name.startswith("iou/")
    }
    return {
        "network": best.name,
        "split": config.split,
        "epochs": config.epochs,
        "best_epoch": None if result.best_epoch is None else result.best_epoch + 1,
        "miou": result.best_figures.get("miou"),
        "pixel_accuracy": result.best_figures.get("pixel_accuracy"),
        "per_class_iou": per_class,
        "parameters": size.parameters,
        "gmacs": size.gmacs,
        "input_size": list(checkpoint.input_size),
        "duration_s": result.duration_s,
        "origins": dict(checkpoint.origins),
    }
