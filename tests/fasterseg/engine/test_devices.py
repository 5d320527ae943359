"""Seeds and the state of the random generators."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.checkpoint import load_state, save_state
from fasterseg.engine.devices import (
    build_fabric,
    random_state,
    restore_random_state,
    seed_everything,
    use_channels_last,
)


def draw() -> tuple[float, ...]:
    return random.random(), float(np.random.rand()), float(np.random.randn()), float(torch.rand(1))


def test_one_seed_gives_the_same_numbers() -> None:
    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert draw() != first


def test_random_state_survives_a_checkpoint(tmp_path: Path) -> None:
    seed_everything(7)
    draw()
    save_state(tmp_path / "last.pt", {"random": random_state()})
    expected = [draw() for _ in range(3)]
    restore_random_state(load_state(tmp_path / "last.pt")["random"])
    assert [draw() for _ in range(3)] == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without CUDA")
def test_cuda_without_cuda_is_an_error() -> None:
    with pytest.raises(ValueError, match="PyTorch finds 0"):
        build_fabric(DeviceConfig(accelerator="cuda"))
    assert build_fabric(DeviceConfig()).device.type == "cpu"


def test_devices_must_not_contradict_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"device\.devices is 3, but torchrun started 2 process\(es\)"):
        build_fabric(DeviceConfig(accelerator="cpu", devices=3))


def test_channels_last_keeps_values_and_stores_every_convolution_that_way() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1))
    before = [parameter.clone() for parameter in network.parameters()]
    use_channels_last(network)
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))
    assert [parameter.stride() for parameter in network.parameters() if parameter.ndim == 4] == [
        (27, 1, 9, 3),
        (8, 1, 8, 8),
    ]
