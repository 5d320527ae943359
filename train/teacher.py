"""The teacher stage: trains the searched teacher network on the images alone."""

from pathlib import Path

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from fasterseg.base.experiment import Experiment
from latency.config import TargetConfig
from train.config import TeacherConfig
from train.run import train_network
from train.start import NetworkStart

STAGE = "teacher"
SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "target": TargetConfig, STAGE: TeacherConfig}


def run_teacher(experiment: Experiment, *, out: Path, start: NetworkStart) -> Path:
    """Trains the teacher, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        out: The run folder.
        start: What is trained: the search's `architecture_teacher.json` by `start_fresh`, or a network's weights.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: The dataset does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    config = experiment.section(STAGE, TeacherConfig)
    return train_network(experiment, config, stage=STAGE, out=out, start=start)
