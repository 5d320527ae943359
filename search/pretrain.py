"""The pretrain stage: the supernet's weights, before the architecture parameters are trained.

Each step is a sandwich of four passes (full width, least width, two random ones) for one of the two architecture sets;
the sets take turns, so that both have trained stems and heads when the search starts.

Source: FasterSeg, section 3.4; slimmable networks' sandwich rule (Yu and Huang, ICCV 2019).
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from pydantic import BaseModel

from dataset_tools.config import DatasetConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.experiment import Experiment
from fasterseg.engine.devices import build_fabric
from fasterseg.engine.distributed import share_buffers
from fasterseg.engine.loop import Position, Stage, run_stage
from fasterseg.engine.optimization import exponential_lr, set_lr
from fasterseg.engine.run_folder import RunFolder, open_run_folder
from fasterseg.engine.start import begin_stage, stage_settings
from fasterseg.networks.space import SpaceConfig
from search.config import PretrainConfig
from search.steps import SANDWICH, SETS, WeightsStep
from search.supernet import Pass, Supernet
from search.training import SupernetLoss, prepare_supernet, save_supernet

STAGE = "pretrain"
SECTIONS: dict[str, type[BaseModel]] = {"dataset": DatasetConfig, "space": SpaceConfig, STAGE: PretrainConfig}


class PretrainStage(Stage[LabeledImage]):
    """Trains the weights of a supernet.

    Args:
        supernet: With fresh weights.
        config: Schedule and loss.
        loss: The loss of a pass.
        fabric: The processes and their devices.
        run_folder: Where the supernet goes.
    """

    def __init__(
        self, supernet: Supernet, *, config: PretrainConfig, loss: SupernetLoss, fabric: Fabric, run_folder: RunFolder
    ) -> None:
        self.supernet, self.config, self.loss = supernet, config, loss
        self.fabric, self.run_folder = fabric, run_folder
        prepare_supernet(supernet, fabric)
        self.weights = WeightsStep(supernet, config, loss=loss, fabric=fabric)

    def step(self, batch: LabeledImage, position: Position) -> Mapping[str, torch.Tensor]:
        """One step of SGD over the sandwich of one architecture set; see `Stage.step`."""
        architecture_set = SETS[position.step % len(SETS)]
        passes = [Pass(architecture_set, mode) for mode in SANDWICH]
        losses = self.weights.run(batch, passes=passes)
        by_mode = {name.removeprefix(f"{architecture_set}_"): value for name, value in losses.items()}
        return {"loss": torch.stack(list(losses.values())).mean(), **by_mode}

    def start_epoch(self, position: Position) -> None:
        """Sets the epoch's learning rate; see `Stage.start_epoch`."""
        self.supernet.train()
        set_lr(self.weights.optimizer, self._learning_rate(position))

    def end_epoch(self, position: Position) -> Mapping[str, float]:
        """See `Stage.end_epoch`."""
        share_buffers(self.supernet, self.fabric)
        return {"lr": self._learning_rate(position)}

    def merit(self, position: Position, figures: Mapping[str, float]) -> float | None:  # noqa: ARG002 - the hook's
        """Pretraining keeps the last epoch: there is no score to choose by; see `Stage.merit`."""
        return 0.0 if position.epoch + 1 == position.epochs else None

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:  # noqa: ARG002 - the hook's
        """Writes `best.pt`."""
        save_supernet(self.run_folder.best, self.supernet)

    def state(self) -> dict[str, Any]:
        """Weights and momentum."""
        return {"supernet": self.supernet.state_dict(), "optimizer": self.weights.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores what `state` returned."""
        self.supernet.load_state_dict(state["supernet"])
        self.weights.optimizer.load_state_dict(state["optimizer"])

    def _learning_rate(self, position: Position) -> float:
        return exponential_lr(self.config.lr, decay=self.config.lr_decay, epoch=position.epoch)


def run_pretrain(experiment: Experiment, *, out: Path) -> Path:
    """Pretrains the supernet, or goes on with it.

    Args:
        experiment: Read with `SECTIONS`.
        out: The run folder.

    Returns:
        The path of `best.pt`: the supernet after the last epoch.

    Raises:
        FileNotFoundError: The dataset is missing.
        ValueError: `out` belongs to another experiment, or a loss is not finite.
    """
    config = experiment.section(STAGE, PretrainConfig)
    space = experiment.section("space", SpaceConfig)
    data = ExperimentData.load(experiment)
    fabric = build_fabric(config.device)
    settings = stage_settings(
        STAGE,
        config,
        fabric=fabric,
        seed=experiment.seed,
        dataset=data.settings(),
        space=space.model_dump(mode="json"),
        origins={"dataset": data.description.digest()},
    )
    with open_run_folder(out, stage=STAGE, settings=settings, fabric=fabric) as run_folder:
        check = partial(data.check, data.config.train_split)
        if not begin_stage(run_folder, run_folder.best, fabric=fabric, seed=experiment.seed, check=check):
            return run_folder.best
        supernet = Supernet(space, data.description.num_classes)
        loader = data.train_loader(config, fabric, seed=experiment.seed)
        loss = SupernetLoss(config, ignore_index=data.description.ignore_index, fabric=fabric)
        stage = PretrainStage(supernet, config=config, loss=loss, fabric=fabric, run_folder=run_folder)
        result = run_stage(
            stage,
            loader,
            run_folder,
            fabric=fabric,
            epochs=config.epochs,
            log_every=config.log_every,
            save_every_minutes=config.save_every_minutes,
        )
        run_folder.finish({"supernet": run_folder.best.name, "epochs": config.epochs, "duration_s": result.duration_s})
        fabric.barrier()
    return run_folder.best
