"""The teacher stage: trains the searched teacher network on the images alone."""

from pathlib import Path

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from fasterseg.engine.config import Experiment
from latency.config import TargetConfig
from train.config import TeacherConfig
from train.trainer import train_network

STAGE = "teacher"
SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "target": TargetConfig, STAGE: TeacherConfig}


def run_teacher(experiment: Experiment, *, out: Path, architecture_path: Path) -> Path:
    """Trains the teacher, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        out: The run folder.
        architecture_path: The search's `architecture_teacher.json`.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: Architecture or dataset is missing.
        ValueError: One of them does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    config = experiment.section(STAGE, TeacherConfig)
    return train_network(experiment, config, stage=STAGE, out=out, architecture_path=architecture_path)
