"""The student stage: trains the searched student network on the images and on the teacher's logits."""

from pathlib import Path

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from fasterseg.base.experiment import Experiment
from latency.config import TargetConfig
from train.config import StudentConfig
from train.run import train_network
from train.start import NetworkStart

STAGE = "student"
SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "target": TargetConfig, STAGE: StudentConfig}


def run_student(experiment: Experiment, *, out: Path, start: NetworkStart, teacher_path: Path | None) -> Path:
    """Trains the student, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        out: The run folder.
        start: What is trained: the search's `architecture_student.json` by `start_fresh`, or a network's weights.
        teacher_path: The teacher's `best.pt`; None (with `student.distillation_weight` 0) trains without one.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: Teacher or dataset is missing.
        ValueError: One of them does not fit (such as a teacher of another class count), `out` belongs to another
            experiment, a loss is not finite, or the teacher's logits are to be cached for random crops.
    """
    config = experiment.section(STAGE, StudentConfig)
    if config.distillation_weight == 0:
        teacher_path = None
    elif teacher_path is None:
        raise ValueError(
            f"student.distillation_weight is {config.distillation_weight}, but no teacher is given; "
            "name the teacher's best.pt, or set student.distillation_weight=0"
        )
    return train_network(
        experiment,
        config,
        stage=STAGE,
        out=out,
        start=start,
        teacher_path=teacher_path,
        distillation_weight=config.distillation_weight,
        cache_teacher_logits=config.cache_teacher_logits,
    )
