"""The search in two processes on the CPU (gloo): its step, its validation, and a cut run that one process ends."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric

from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription
from fasterseg.base.devices import DeviceConfig
from fasterseg.base.experiment import load_experiment
from fasterseg.engine.checkpoint import load_state
from fasterseg.engine.config import OhemConfig
from fasterseg.engine.devices import build_fabric, seed_everything
from fasterseg.engine.loop import Position
from fasterseg.networks import SpaceConfig
from fasterseg.networks.space import BRANCH_PAIRS
from search import trainer
from search.config import SearchConfig
from search.data import SearchBatch
from search.expected_latency import ExpectedLatency
from search.latency_costs import LatticeProblem
from search.selection import score_heads
from search.stage import SearchStage
from search.steps import SEARCH_PASSES, ArchitectureStep, WeightsStep
from search.supernet import Supernet
from search.training import SupernetLoss, prepare_supernet

ROOT = Path(__file__).resolve().parents[2]


def draw_batch(count: int) -> LabeledImage:
    """Images whose labels have holes of unequal size."""
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (count, 64, 96), generator=generator)
    labels[0, :50] = 255
    labels[1, 40:, :70] = 255
    return LabeledImage(torch.randn(count, 3, 64, 96, generator=generator, dtype=torch.float64), labels, "drawn")


def frozen_supernet(fabric: Fabric) -> Supernet:
    """A supernet with decided choices, whose batch norms keep statistics that are not those of the batch.

    In float64: Adam's first step follows the sign of a gradient, however small.
    """
    seed_everything(1)
    supernet = Supernet(SpaceConfig(layers=8, base_channels=2, widths=(0.5, 1.0), student_width=0.5), 3)
    with torch.no_grad():
        for logits in supernet.architecture_parameters():
            logits.normal_()
        for name, buffer in supernet.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
    prepare_supernet(supernet.double(), fabric)
    return supernet.eval()


def measure(fabric: Fabric) -> dict[str, Any]:
    """One step of the architecture and one of the weights on this process's share of four images, and three scored."""
    share = slice(fabric.global_rank, None, fabric.world_size)
    whole = draw_batch(4)
    batch = LabeledImage(whole.image[share], whole.label[share], "drawn")
    supernet = frozen_supernet(fabric)
    config = SearchConfig(crop_size_px=(64, 96), grad_clip=1.0, ohem=OhemConfig(min_kept_fraction=0))
    loss = SupernetLoss(config, ignore_index=255, fabric=fabric)
    problem = LatticeProblem(supernet.space, "student", 3, (64, 96))
    latency = ExpectedLatency(problem, entry_ms=lambda spec: 1e-5 * spec.height * spec.width, pairs=BRANCH_PAIRS)
    architecture = ArchitectureStep(supernet, config, loss=loss, latency_term=latency, fabric=fabric)
    weights = WeightsStep(supernet, config, loss=loss, fabric=fabric)

    architecture_losses = architecture.gradients(batch)
    architecture_gradients = gradients_of(supernet, "architectures.")
    architecture.optimizer.step()
    losses = weights.run(batch, passes=SEARCH_PASSES)
    images = draw_batch(3)
    pairs = zip(images.image[share].split(1), images.label[share].split(1), strict=True)
    scores = score_heads(
        supernet,
        [LabeledImage(*pair, "drawn") for pair in pairs],
        architecture_set="student",
        description=DatasetDescription(Path(), "drawn", ("a", "b", "c"), ((0, 0, 0),) * 3, {}),
        device=fabric.device,
    )
    return {
        "losses": {**losses, **{f"architecture_{name}": value for name, value in architecture_losses.items()}},
        "architecture_gradients": architecture_gradients,
        "weight_gradients": gradients_of(supernet, ("cells.", "parts.")),
        "state": dict(supernet.state_dict()),
        "scores": scores,
    }


def gradients_of(supernet: Supernet, prefix: str | tuple[str, ...]) -> dict[str, torch.Tensor]:
    return {
        name: parameter.grad.clone()
        for name, parameter in supernet.named_parameters()
        if name.startswith(prefix) and parameter.grad is not None
    }


def main(experiment: Path, pretrained: Path, out: Path) -> None:
    """What each of two processes does; the second one dies in the second epoch of a search."""
    fabric = build_fabric(DeviceConfig(accelerator="cpu", devices=2, threads=1))
    torch.save(measure(fabric), out / f"{fabric.global_rank}.pt")
    step = SearchStage.step

    def cut(self: SearchStage, batch: SearchBatch, position: Position) -> Mapping[str, torch.Tensor]:
        if position.epoch == 1 and self.fabric.global_rank == 1:
            raise RuntimeError("the second process is cut off")
        return step(self, batch, position)

    SearchStage.step = cut  # type: ignore[method-assign]
    settings = ("search.batch_size=1", "search.device={accelerator: cpu, devices: 2, threads: 1}")
    trainer.run_search(
        load_experiment(experiment, settings, trainer.SECTIONS),
        out=out / "search",
        table_path=experiment.parent / "latency_table.json",
        pretrained_path=pretrained,
    )


def assert_close(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> None:
    """Equal to 1e-5 of each tensor's largest value."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=1e-5 * max(float(value.abs().max()), 1e-6), msg=name
        )


def test_two_processes_search_as_one(runner: Any, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__)), str(runner.file), str(runner.pretrained), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode != 0 and "the second process is cut off" in ended.stderr

    alone = measure(build_fabric(DeviceConfig(accelerator="cpu")))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for group in ("architecture_gradients", "weight_gradients", "state"):
        assert_close(first[group], alone[group])
        assert all(torch.equal(second[group][name], value) for name, value in first[group].items())
    mean_losses = {name: (first["losses"][name] + second["losses"][name]) / 2 for name in alone["losses"]}
    assert_close(mean_losses, alone["losses"])
    assert first["scores"] == second["scores"] == alone["scores"]

    assert load_state(tmp_path / "search/last.pt")["processes"] == 2
    with pytest.raises(ValueError, match=r"search\.images_per_step is 2 there, 1 here"):
        runner.search("search", "search.batch_size=1")
    folder = runner.search("search", "search.batch_size=2")
    assert "goes on after epoch 1 of" in (log := (folder / "log.txt").read_text())
    assert "with 1 process(es) instead of 2" in log
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "epoch/miou" in record] == [2, 4]
    assert (folder / "summary.json").is_file()


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
