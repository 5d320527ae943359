"""A stage small enough to be cut everywhere: it draws from every random generator and its batches follow the epoch."""

import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.loop import EpochLoader, Position, Stage, StageResult, run_stage
from fasterseg.engine.optimization import sgd
from fasterseg.engine.run_folder import open_run_folder

EPOCHS, STEPS = 4, 5


class TinyLoader:
    """Batches that follow from epoch and number alone."""

    epoch = start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.epoch)
        for number in range(STEPS):
            batch = torch.randn(4, 3, generator=generator)
            if number >= self.start:
                yield batch


class TinyStage(Stage[torch.Tensor]):
    """Fits a batch-normalised layer with noise from every random generator.

    Args:
        on_step: Called before each step with its number.
        nan_at: A step whose second loss is not finite.
    """

    def __init__(self, *, on_step: Callable[[int], None] = lambda _: None, nan_at: int | None = None) -> None:
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = sgd(self.network.parameters(), lr=0.1)
        self.on_step, self.nan_at = on_step, nan_at
        self.merits = {0: 0.1, 1: 0.9, 2: 0.3, 3: 0.8}
        self.best_epochs: list[int] = []

    def start_epoch(self, position: Position) -> None:
        self.network.train()
        self.offset = float(torch.rand(()))

    def step(self, batch: torch.Tensor, position: Position) -> dict[str, torch.Tensor]:
        self.on_step(position.step)
        noise = torch.randn(4, 1) + random.random() + float(np.random.rand())
        main = ((self.network(batch[:, :3]) - noise) ** 2).mean()
        auxiliary = main * (float("nan") if position.step == self.nan_at else 0.5)
        self.optimizer.zero_grad()
        main.backward()
        self.optimizer.step()
        return {"main": main, "auxiliary_0": auxiliary}

    def validate(self, position: Position) -> dict[str, float]:
        self.network.eval()
        return {"miou": self.merits[position.epoch], "noise": random.random()}

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:
        self.best_epochs.append(position.epoch)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def run_tiny_stage(
    path: Path,
    *,
    epochs: int = EPOCHS,
    devices: int = 1,
    log_every: int = 2,
    save_every_minutes: float = 10.0,
    loader: EpochLoader[torch.Tensor] | None = None,
    on_step: Callable[[int], None] = lambda _: None,
    nan_at: int | None = None,
) -> tuple[TinyStage, StageResult]:
    """Runs the stage in that folder, or goes on with it."""
    seed_everything(3)
    stage = TinyStage(on_step=on_step, nan_at=nan_at)
    fabric = build_fabric(DeviceConfig(accelerator="cpu", devices=devices))
    with open_run_folder(path, stage="student", settings={"seed": 3}, fabric=fabric) as folder:
        result = run_stage(
            stage,
            loader or TinyLoader(),
            folder,
            fabric=fabric,
            epochs=epochs,
            log_every=log_every,
            save_every_minutes=save_every_minutes,
        )
    return stage, result
