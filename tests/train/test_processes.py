"""Training in two processes on the CPU (gloo): equal to one with the joint batch, and cut off."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from dataset_tools.dataset import LabeledImage
from fasterseg.base.experiment import load_experiment
from fasterseg.engine.checkpoint import load_state
from fasterseg.engine.loop import Position
from fasterseg.networks.icnet import ICNetArchitecture
from train import stages
from train.config import ICNetConfig
from train.recipe import check_batch_norm, prepare_network
from train.trainer import NetworkStage

ROOT = Path(__file__).resolve().parents[2]
# batch norm tells two processes from one unless it is frozen
FROZEN = {"batch_norm": "frozen", "epochs": 2, "iterations_per_epoch": 2, "lr": 1e-4, "log_every": 1}
WHOLE, CUT = "whole", "cut"


def train(file: Path, out: Path, *settings: str) -> None:
    overrides = [f"baselines.icnet.{text}" for text in settings]
    stages.run_baseline(load_experiment(file, overrides, stages.BASELINE_SECTIONS), "icnet", out=out)


def cut_off(monkeypatch: pytest.MonkeyPatch, *, rank: int = 0) -> None:
    """Has one process die in the second epoch."""
    step = NetworkStage.step

    def cut(self: NetworkStage, batch: LabeledImage, position: Position) -> Mapping[str, torch.Tensor]:
        if position.step == 3 and self.fabric.global_rank == rank:
            raise RuntimeError("cut off")
        return step(self, batch, position)

    monkeypatch.setattr(NetworkStage, "step", cut)


def main(file: Path, out: Path, mode: str) -> None:
    """What each of two processes does: half of each batch, to the end or until the second one dies."""
    devices = 1 if mode == WHOLE else 2
    if mode == CUT:
        cut_off(pytest.MonkeyPatch(), rank=1)
    train(file, out, "batch_size=2", f"device={{accelerator: cpu, threads: 1, devices: {devices}}}")


def train_in_two(file: Path, out: Path, mode: str) -> subprocess.CompletedProcess[str]:
    """Runs `main` twice: by torchrun to the end, by the stage itself where it is cut."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    launch = torchrun if mode == WHOLE else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *launch, str(Path(__file__)), str(file), str(out), mode]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_runs_of_two_processes_and_of_one_go_on_with_the_other(
    write_experiment: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_experiment(**FROZEN)
    train(file, tmp_path / "one", "batch_size=4")
    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="cut off"):
        cut_off(patch)
        train(file, tmp_path / "one_two", "batch_size=4")
    ended = train_in_two(file, tmp_path / "one_two", WHOLE)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("with 2 process(es) instead of 1") == 1

    ended = train_in_two(file, tmp_path / "two_one", CUT)
    assert ended.returncode != 0 and "cut off" in ended.stderr
    with pytest.raises(ValueError, match=r"icnet\.images_per_step is 4 there, 2 here"):
        train(file, tmp_path / "two_one", "batch_size=2")
    train(file, tmp_path / "two_one", "batch_size=4", "accumulation=2")

    expected = load_state(tmp_path / "one/last.pt")["stage"]["network"]
    for name in ("one_two", "two_one"):
        found = load_state(tmp_path / name / "last.pt")["stage"]["network"]
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
        assert figures(tmp_path / name) == pytest.approx(figures(tmp_path / "one"), rel=1e-4)


def figures(folder: Path) -> dict[str, Any]:
    """Each epoch's losses and scores, by step."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return {f"{record['step']} {name}": value for record in records for name, value in record.items()}


def test_synchronised_batch_norm_needs_gpus() -> None:
    fabric = cast(Fabric, SimpleNamespace(world_size=2, device=torch.device("cpu")))
    network = ICNetArchitecture(width_factor=0.125).build(3)
    with pytest.raises(ValueError, match="batch_norm is synchronized, which PyTorch has for CUDA devices only, but 2"):
        check_batch_norm(ICNetConfig(batch_norm="synchronized"), fabric)
    for kind in ("auto", "local"):
        config = ICNetConfig.model_validate({"batch_norm": kind})
        check_batch_norm(config, fabric)
        prepare_network(network, config, fabric)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    prepare_network(network, ICNetConfig(), cast(Fabric, SimpleNamespace(world_size=2, device=torch.device("cuda"))))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
