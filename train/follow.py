"""`train evaluate --follow`: evaluates a training run from a separate process, such as on another device.

It watches the run folder of a teacher, student or baseline, evaluates the network of every new `last.pt`, and ends when
the run has ended. mIoU, loss and example pictures go to its own run folder and TensorBoard files.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch

from dataset_tools.description import DatasetDescription
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.devices import Device
from fasterseg.base.experiment import Experiment
from fasterseg.base.yamlfile import read_yaml
from fasterseg.engine.checkpoint import load_state
from fasterseg.engine.evaluation import ExamplePictures, LabeledBatch, evaluate
from fasterseg.engine.losses import OhemCrossEntropy, head_loss
from fasterseg.engine.run_folder import CONFIG_NAME, RunFolder, open_run_folder
from fasterseg.networks import AnyArchitecture, Network, build_network, load_architecture
from train.config import StageName, TrainConfig, stage_config
from train.data import dataset_facts
from train.stages import ARCHITECTURE_NAME

STAGE = "follow"


@dataclass(frozen=True)
class Following:
    """A training run to follow, and how.

    Attributes:
        run: The run folder of a training stage.
        every_s: Seconds between two checks for a new checkpoint.
        once: Whether to end after evaluating the current checkpoint.
        device: Device of the networks.

    Raises:
        ValueError: `every_s` is not above 0.
        FileNotFoundError: There is no such run.
    """

    run: Path
    every_s: float = 10.0
    once: bool = False
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if not self.every_s > 0:
            raise ValueError(f"every_s is {self.every_s}, expected seconds above 0")
        for name in (CONFIG_NAME, ARCHITECTURE_NAME):
            if not (self.run / name).is_file():
                raise FileNotFoundError(
                    f"no {name} in {self.run}, so it is not the run folder of a teacher, student or baseline that has "
                    "begun to train; start the training first"
                )

    def stage(self) -> StageName:
        """The training stage that the run folder belongs to.

        Raises:
            ValueError: It belongs to another kind of stage.
        """
        config = read_yaml(self.run / CONFIG_NAME)
        name = str(config.get("stage") if isinstance(config, dict) else None).rpartition(".")[2]
        if name not in get_args(StageName):
            raise ValueError(
                f"{self.run} belongs to the stage {name}; expected a run of {', '.join(get_args(StageName))}"
            )
        return cast(StageName, name)


def run_follow(experiment: Experiment, following: Following, *, out: Path) -> list[int]:
    """Evaluates every checkpoint of a run as soon as it is written.

    Args:
        experiment: Read with the sections `dataset`, `teacher`, `student` and `baselines`.
        following: The run to follow, and how.
        out: The evaluator's own run folder.

    Returns:
        The epochs (counted from 1) that this call evaluated, without checkpoints that were replaced too soon.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: The run is of other classes than the dataset, or a checkpoint is damaged.
    """
    description = ExperimentData.load(experiment).description
    config = stage_config(experiment, following.stage())
    architecture = load_architecture(following.run / ARCHITECTURE_NAME)
    settings = {
        "run": str(following.run.resolve()),
        "dataset": {"root": str(description.root), "digest": description.digest()},
        "image_scale": config.image_scale,
    }
    training = RunFolder(following.run, stage=following.stage(), writes=False)
    evaluated: list[int] = []
    with open_run_folder(out, stage=STAGE, settings=settings) as run_folder:
        seen = _last_epoch(run_folder)
        changed_ns = -1
        while True:
            # read before the checkpoint, so that the last checkpoint is not missed
            ended = training.is_finished or following.once
            now_ns = training.last.stat().st_mtime_ns if training.last.is_file() else changed_ns
            if now_ns != changed_ns:
                changed_ns = now_ns
                state = load_state(training.last)
                epoch = int(state["loop"]["epoch"])
                # a state saved within an epoch is not the network after the epoch
                if epoch > seen and not state["loop"].get("steps_in_epoch"):
                    network = _restore(architecture, state, description, source=training.last)
                    _evaluate(network.to(following.device), epoch, experiment, config, run_folder=run_folder)
                    evaluated.append(epoch)
                    seen = epoch
            if ended:
                break
            time.sleep(following.every_s)
        if training.is_finished:
            run_folder.finish({"run": str(following.run), "last_epoch": seen})
    return evaluated


def _last_epoch(run_folder: RunFolder) -> int:
    """The latest epoch that an earlier call has evaluated."""
    return max((int(line["step"]) for line in run_folder.read_metrics()), default=0)


def _restore(
    architecture: AnyArchitecture, state: dict[str, Any], description: DatasetDescription, *, source: Path
) -> Network:
    """The network of a training state, in evaluation mode."""
    network = build_network(architecture, description.num_classes)
    try:
        network.load_state_dict(state["stage"]["network"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{source} does not hold the network that {ARCHITECTURE_NAME} beside it describes, for the "
            f"{description.num_classes} classes of {description.root}: {error}"
        ) from error
    return network.eval()


def _evaluate(
    network: Network, epoch: int, experiment: Experiment, config: TrainConfig, *, run_folder: RunFolder
) -> None:
    """Scores a network on the validation split and records it under its epoch."""
    data = ExperimentData.load(experiment)
    description = data.description
    device = next(network.parameters()).device
    criterion = OhemCrossEntropy(threshold=1.0, min_kept_fraction=0.0, ignore_index=description.ignore_index)
    pictures = ExamplePictures(run_folder, dataset_facts(description), count=config.example_count, step=epoch)
    losses: list[float] = []
    latest: list[torch.Tensor] = []

    def predict(image: torch.Tensor) -> torch.Tensor:
        latest[:] = [network(image).main]
        return latest[0]

    def note(batch: LabeledBatch, prediction: torch.Tensor) -> None:
        losses.append(head_loss(criterion, latest[0], batch.label.to(device)).item())
        pictures.show(batch, prediction)

    scores = evaluate(
        predict,
        data.validation_loader(config.image_scale),
        class_names=description.class_names,
        ignore_index=description.ignore_index,
        device=device,
        on_prediction=note,
    )
    loss = sum(losses) / len(losses)
    run_folder.metrics(epoch, {"miou": scores.miou, "loss": loss, **scores.figures()}, prefix="validation")
    run_folder.log(f"epoch {epoch}: mIoU {scores.miou:.4f}, loss {loss:.4f}")
