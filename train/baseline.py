"""The baseline stages: PSPNet50 and ICNet by their own recipes, in the loop that the searched networks train in.

ICNet trains in a single stage from ImageNet weights, or in two: from a trained PSPNet50's backbone, and again after it
was pruned.
"""

from pathlib import Path

from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from dataset_tools.description import load_description
from fasterseg.base.experiment import Experiment
from latency.config import TargetConfig
from train.config import BaselineName, BaselinesConfig, baseline_config
from train.run import train_network
from train.start import start_baseline

SECTION = "baselines"
SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "target": TargetConfig, SECTION: BaselinesConfig}


def run_baseline(experiment: Experiment, name: BaselineName, *, out: Path, start_from: Path | None = None) -> Path:
    """Trains a baseline, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        name: Which.
        out: The run folder.
        start_from: A checkpoint to start from; the section's own when None.

    Returns:
        The path of `best.pt`.

    Raises:
        FileNotFoundError: The dataset, the ImageNet weights or the checkpoint to start from is missing.
        ValueError: One of them does not fit, `out` belongs to another experiment, or a loss is not finite.
    """
    config = baseline_config(experiment, name)
    num_classes = load_description(experiment.section("dataset", DatasetConfig).root).num_classes
    start = start_baseline(name, config, num_classes=num_classes, start_from=start_from)
    return train_network(experiment, config, stage=f"{SECTION}.{name}", out=out, start=start)
