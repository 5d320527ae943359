"""A training stage from its start to its summary: what teacher, student and baselines have in common.

`train_network` reads the dataset, opens the run folder, runs `trainer.NetworkStage` in the engine's loop, or goes on
with it, and closes the stage with its best network and a summary.
"""

import json
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from dataset_tools.config import DatasetConfig
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.doctor.examine import verify_split
from fasterseg.base.experiment import Experiment
from fasterseg.base.files import file_digest, write_text
from fasterseg.engine.checkpoint import NetworkCheckpoint, load_network
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.distributed import run_in_first
from fasterseg.engine.loop import StageResult, run_stage
from fasterseg.engine.memory import peak_memory_bytes
from fasterseg.engine.run_folder import RunFolder, open_run_folder, training_settings
from fasterseg.networks import measure_size
from latency.config import TargetConfig
from train.config import TrainConfig
from train.data import StageData, build_stage_data, training_split
from train.recipe import check_batch_norm
from train.start import NetworkStart
from train.teacher_logits import CACHE_FOLDER, check_crops_repeat
from train.trainer import Distillation, NetworkStage

ARCHITECTURE_NAME = "architecture.json"


def train_network(
    experiment: Experiment,
    config: TrainConfig,
    *,
    stage: str,
    out: Path,
    start: NetworkStart,
    teacher_path: Path | None = None,
    distillation_weight: float = 0.0,
    cache_teacher_logits: bool = False,
) -> Path:
    """Runs a training stage to its end, or goes on with it.

    Args:
        experiment: Read with the sections `dataset` and `target` and the stage's own.
        config: The stage's section.
        stage: Its name.
        out: Its run folder.
        start: What is trained, and from which weights.
        teacher_path: The teacher's `best.pt`.
        distillation_weight: How much the teacher counts.
        cache_teacher_logits: Whether its logits are kept in the run folder.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: Teacher or dataset is missing.
        ValueError: One of them does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    data_config = experiment.section("dataset", DatasetConfig)
    input_size = experiment.section("target", TargetConfig).input_size
    description = load_description(Path(data_config.root))
    distillation, origins = None, dict(start.origins)
    if teacher_path is not None:
        if cache_teacher_logits:
            check_crops_repeat(description.samples(training_split(data_config, config)), config)
        cache = out / CACHE_FOLDER if cache_teacher_logits else None
        distillation = Distillation(_load_teacher(teacher_path, description).build(), distillation_weight, cache)
        origins["teacher"] = file_digest(teacher_path)
    fabric = build_fabric(config.device)
    check_batch_norm(config, fabric)
    settings = {
        "seed": experiment.seed,
        "dataset": data_config.model_dump(mode="json", exclude={"num_workers", "synthesize"}),
        "target": {"input_size": input_size},
        stage: training_settings(config, processes=fabric.world_size),
        "origins": {"dataset": description.digest(), **origins},
    }
    with open_run_folder(out, stage=stage, settings=settings, fabric=fabric) as run_folder:
        if run_folder.finished(run_folder.best):
            return run_folder.best
        predicted = [data_config.test_split] if config.predict_test_every else []
        splits = "+".join([data_config.train_split, data_config.validation_split, *predicted])
        run_in_first(fabric, lambda: verify_split(description, splits))
        seed_everything(experiment.seed)
        data = build_stage_data(description, data=data_config, config=config, fabric=fabric, seed=experiment.seed)
        if run_folder.writes:
            # what a separate evaluator builds the network from
            write_text(out / ARCHITECTURE_NAME, json.dumps(start.architecture.to_dict(), indent=2) + "\n")
        trained = NetworkStage(
            start.build(description.num_classes),
            config=config,
            data=data,
            template=NetworkCheckpoint(start.architecture, data.facts, input_size, weights={}, origins=origins),
            fabric=fabric,
            run_folder=run_folder,
            distillation=distillation,
        )
        result = _run(trained, config, data, fabric=fabric, run_folder=run_folder)
        if run_folder.writes:
            run_folder.finish(summarize(result, run_folder.best, config=config))
        fabric.barrier()
    return run_folder.best


def _load_teacher(path: Path, description: DatasetDescription) -> NetworkCheckpoint:
    """A teacher of the dataset's classes."""
    teacher = load_network(path, num_classes=description.num_classes)
    if teacher.dataset.class_names != description.class_names:
        raise ValueError(
            f"{path} was trained for the classes {', '.join(teacher.dataset.class_names)}; the dataset has "
            f"{', '.join(description.class_names)}: train a teacher on this dataset"
        )
    return teacher


def _run(
    stage: NetworkStage, config: TrainConfig, data: StageData, *, fabric: Fabric, run_folder: RunFolder
) -> StageResult:
    """Runs the stage from its start, or from where the run folder was cut off, and tells its peak memory."""
    result = run_stage(
        stage,
        data.training,
        run_folder,
        fabric=fabric,
        epochs=config.epochs,
        validate_every=config.validate_every,
        log_every=config.log_every,
        save_every_minutes=config.save_every_minutes,
    )
    peak = peak_memory_bytes(fabric.device)
    if peak is not None:
        saving = "on" if config.memory_saving else "off"
        run_folder.log(f"peak memory {peak / 2**30:.2f} GiB on {fabric.device.type}, memory saving {saving}")
    return result


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
        "gmacs": size.macs / 1e9,
        "input_size": list(checkpoint.input_size),
        "duration_s": result.duration_s,
        "origins": dict(checkpoint.origins),
    }
