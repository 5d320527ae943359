"""Two processes on the CPU (gloo): what they share, and that they end together."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from fasterseg.base.commandline import USER_ERROR_EXIT_CODE
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.distributed import average_gradients, run_in_first, share_buffers, share_random_state
from fasterseg.engine.evaluation import evaluate
from fasterseg.engine.losses import OhemCrossEntropy

ROOT = Path(__file__).resolve().parents[3]


class Batch(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor


def draw_images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits or images (N, 3, 16, 24), and labels of which the first images have few."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count, 16, 24), generator=generator)
    labels[0, :14] = 255
    labels[1, :3] = 255
    return torch.randn(count, 3, 16, 24, generator=generator), labels


def measure(rank: int, world_size: int, criterion: OhemCrossEntropy) -> dict[str, Any]:
    """A loss with its gradient, and scores, of this process's share."""
    share = slice(rank, None, world_size)
    logits, labels = draw_images(4)
    own = logits[share].clone().requires_grad_()
    loss = criterion(own, labels[share])
    loss.backward()
    images, labels = draw_images(3)
    pairs = zip(images[share].split(1), labels[share].split(1), strict=True)
    scores = evaluate(
        lambda image: image, [Batch(*pair) for pair in pairs], class_names=("a", "b", "c"), ignore_index=255
    )
    return {"loss": loss.detach(), "gradient": own.grad, "confusion": torch.from_numpy(scores.confusion)}


def main(out: Path) -> None:
    """What each of two processes does; ends with an error that only the first one meets."""
    fabric = build_fabric(DeviceConfig(accelerator="cpu", devices=2, threads=1))
    rank = fabric.global_rank
    touched, untouched = nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(2))
    touched.grad = torch.full((5,), float(rank))
    average_gradients([untouched, touched], fabric)
    assert untouched.grad is None
    norm = nn.BatchNorm2d(3)
    assert norm.running_mean is not None
    norm.running_mean.fill_(rank + 1)
    share_buffers(norm, fabric)
    seed_everything(rank)
    share_random_state(fabric)
    result = {
        **measure(rank, 2, OhemCrossEntropy(threshold=0.5, min_kept_fraction=0.0, fabric=fabric)),
        "averaged": touched.grad,
        "running_mean": norm.running_mean,
        "random": torch.rand(3),
    }
    torch.save(result, out / f"{rank}.pt")
    try:
        run_in_first(fabric, lambda: (out / "missing").read_text())
    except FileNotFoundError as error:
        print(f"process {rank}: {error}", file=sys.stderr)
        raise SystemExit(USER_ERROR_EXIT_CODE) from None


def test_two_processes_agree_and_end_together(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__)), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == USER_ERROR_EXIT_CODE, ended.stderr
    assert ended.stderr.count("No such file") == 1 and "process 0: " in ended.stderr
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for result in (first, second):
        assert (result["averaged"] == 0.5).all()
        assert (result["running_mean"] == 1).all()
    assert torch.equal(first["random"], second["random"])

    alone = measure(0, 1, OhemCrossEntropy(threshold=0.5, min_kept_fraction=0.0))
    torch.testing.assert_close((first["loss"] + second["loss"]) / 2, alone["loss"])
    gradient = torch.stack([first["gradient"], second["gradient"]], dim=1).flatten(0, 1) / 2
    torch.testing.assert_close(gradient, alone["gradient"])
    assert torch.equal(first["confusion"], alone["confusion"]) and torch.equal(second["confusion"], alone["confusion"])


def test_one_process_waits_for_nobody() -> None:
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    done: list[str] = []
    run_in_first(fabric, lambda: done.append("it"))
    assert done == ["it"]
    with pytest.raises(KeyError):
        run_in_first(fabric, lambda: {}["missing"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
