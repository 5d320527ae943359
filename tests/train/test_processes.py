"""Two processes on the CPU (gloo) against one with the joint batch, where batch norm does not tell them apart."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from fasterseg.engine.checkpoint import load_state
from fasterseg.networks.icnet import ICNetArchitecture
from train.config import ICNetConfig
from train.recipe import prepare_network

ROOT = Path(__file__).resolve().parents[2]
_FROZEN = {"batch_norm": "frozen", "epochs": 1, "iterations_per_epoch": 2, "weight_decay": 0.0}


def train(file: Path, out: Path, *settings: str) -> subprocess.CompletedProcess[str]:
    overrides = [part for text in settings for part in ("--set", f"baselines.icnet.{text}")]
    command = [sys.executable, "-m", "train", "baseline", "icnet", "--config", str(file), "--out", str(out), *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)


def test_two_processes_step_as_one_with_the_joint_batch(write_experiment: Callable[..., Path], tmp_path: Path) -> None:
    file = write_experiment(**_FROZEN)
    one = train(file, tmp_path / "one", "batch_size=4")
    assert one.returncode == 0, one.stderr
    two = train(file, tmp_path / "two", "batch_size=2", "device={accelerator: cpu, devices: 2}")
    assert two.returncode == 0, two.stderr
    states = [load_state(tmp_path / name / "last.pt")["stage"]["network"] for name in ("one", "two")]
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_synchronised_batch_norm_needs_gpus() -> None:
    fabric = cast(Fabric, SimpleNamespace(world_size=2, device=torch.device("cpu")))
    network = ICNetArchitecture(width_factor=0.125).build(3)
    with pytest.raises(ValueError, match="batch_norm is synchronized, which PyTorch has for CUDA devices only, but 2"):
        prepare_network(network, ICNetConfig(), fabric)
    prepare_network(network, ICNetConfig(batch_norm="local"), fabric)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in network.modules())
    prepare_network(network, ICNetConfig(), cast(Fabric, SimpleNamespace(world_size=2, device=torch.device("cuda"))))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
