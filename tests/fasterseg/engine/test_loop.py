"""The loop on a tiny stage: exact resume, the best kept, losses that are not finite."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.checkpoint import load_state
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.loop import Position, Stage, StageResult, run_stage
from fasterseg.engine.optimization import sgd
from fasterseg.engine.run_folder import open_run_folder


class Loader:
    """Batches that follow from the epoch alone."""

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.epoch)
        for _ in range(5):
            yield torch.randn(4, 3, generator=generator)


class TinyStage(Stage[torch.Tensor]):
    """Fits a batch-normalised layer with noise from every random generator."""

    def __init__(self, *, cut_at: int | None = None, nan_at: int | None = None) -> None:
        self.network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        self.optimizer = sgd(self.network.parameters(), lr=0.1)
        self.cut_at, self.nan_at = cut_at, nan_at
        self.merits = {0: 0.1, 1: 0.9, 2: 0.3, 3: 0.8}
        self.best_epochs: list[int] = []

    def step(self, batch: torch.Tensor, position: Position) -> dict[str, torch.Tensor]:
        if position.step == self.cut_at:
            raise KeyboardInterrupt
        noise = torch.randn(4, 1) + random.random() + float(np.random.rand())
        main = ((self.network(batch) - noise) ** 2).mean()
        auxiliary = main * (float("nan") if position.step == self.nan_at else 0.5)
        self.optimizer.zero_grad()
        main.backward()
        self.optimizer.step()
        return {"main": main, "auxiliary_0": auxiliary}

    def validate(self, position: Position) -> dict[str, float]:
        return {"miou": self.merits[position.epoch], "noise": random.random()}

    def save_best(self, position: Position, figures: Mapping[str, float]) -> None:
        self.best_epochs.append(position.epoch)

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])


def run(path: Path, *, epochs: int = 4, **arguments: int) -> tuple[TinyStage, StageResult]:
    seed_everything(3)
    stage = TinyStage(**arguments)
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    with open_run_folder(path, stage="student", settings={"seed": 3}) as folder:
        result = run_stage(stage, Loader(), folder, fabric=fabric, epochs=epochs, log_every=2)
    return stage, result


def weights(stage: TinyStage) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in stage.network.state_dict().items()}


@pytest.mark.parametrize("cut_at", [5, 8, 13], ids=["between epochs", "in epoch 2", "in epoch 3"])
def test_a_cut_run_ends_as_an_uncut_one(tmp_path: Path, cut_at: int) -> None:
    whole, whole_result = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", cut_at=cut_at)
    resumed, result = run(tmp_path / "cut")
    for name, value in weights(whole).items():
        assert torch.equal(value, weights(resumed)[name]), name
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    assert (result.best_epoch, result.best_figures) == (whole_result.best_epoch, whole_result.best_figures)
    momentum = [load_state(tmp_path / name / "last.pt")["stage"]["optimizer"]["state"] for name in ("whole", "cut")]
    assert all(
        torch.equal(momentum[0][key]["momentum_buffer"], momentum[1][key]["momentum_buffer"]) for key in momentum[0]
    )


def test_two_runs_with_one_seed_are_equal(tmp_path: Path) -> None:
    first, second = (run(tmp_path / name)[0] for name in ("a", "b"))
    assert all(torch.equal(value, weights(second)[name]) for name, value in weights(first).items())
    assert (tmp_path / "a/metrics.jsonl").read_text() == (tmp_path / "b/metrics.jsonl").read_text()


def test_the_best_is_kept(tmp_path: Path) -> None:
    stage, result = run(tmp_path / "run")
    assert stage.best_epochs == [0, 1]
    assert (result.best_epoch, result.best_merit) == (1, 0.9)


def test_validation_happens_when_due_and_after_the_last_epoch(tmp_path: Path) -> None:
    seed_everything(0)
    stage = TinyStage()
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    with open_run_folder(tmp_path / "run", stage="student", settings={}) as folder:
        run_stage(stage, Loader(), folder, fabric=fabric, epochs=4, validate_every=3)
    lines = [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "epoch/miou" in line] == [15, 20]


def test_a_loss_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not finite at step 11 \(epoch 3\): auxiliary_0 = nan.*student.lr"):
        run(tmp_path / "run", nan_at=11)
    assert load_state(tmp_path / "run/last.pt")["loop"]["epoch"] == 2


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    _, first = run(tmp_path / "run")
    stage, second = run(tmp_path / "run", cut_at=0)
    assert second == first and stage.best_epochs == []


def test_a_network_in_place_of_the_state_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", epochs=1)
    torch.save({"format": "fasterseg-checkpoint", "version": 1, "kind": "network"}, tmp_path / "run/last.pt")
    with pytest.raises(ValueError, match="not a training state"):
        run(tmp_path / "run")
