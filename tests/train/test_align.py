"""`train align`: equal networks are equal, and every kind of difference is found."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fasterseg.engine.checkpoint import NetworkCheckpoint, save_network
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from tests.small_checkpoint import FACTS, small_checkpoint
from train.__main__ import app
from train.align import Tolerances, align, random_batch, read_arrays, record_arrays


@pytest.fixture
def checkpoint() -> NetworkCheckpoint:
    return small_checkpoint(PSPNetArchitecture(width_factor=0.125))


def saved(checkpoint: NetworkCheckpoint, path: Path, **weights: torch.Tensor) -> Path:
    """The checkpoint with some weights exchanged (dots written as two underscores)."""
    changed = {name.replace("__", "."): value for name, value in weights.items()}
    save_network(path, replace(checkpoint, weights={**checkpoint.weights, **changed}))
    return path


def failed(first: Path, second: Path, **options: float) -> set[str]:
    report = align(first, second, batch=None, precision="fp64", tolerances=Tolerances(**options))
    return {each.name for each in report.failures}


def test_the_batch_has_every_class_and_ignored_pixels(checkpoint: NetworkCheckpoint) -> None:
    batch = random_batch(checkpoint, (75, 110))
    assert batch.image.shape == (2, 3, 75, 110) and set(batch.label.unique().tolist()) == {0, 1, 2, 255}
    assert torch.equal(batch.label, random_batch(checkpoint, (75, 110)).label)


def test_equal_networks_differ_in_nothing(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    first, second = saved(checkpoint, tmp_path / "a.pt"), saved(checkpoint, tmp_path / "b.pt")
    report = align(first, second, batch=None, precision="fp64", tolerances=Tolerances(1e-12, 1e-12))
    assert not report.failures
    names = {each.name for each in report.differences}
    assert {"logits/main", "logits/auxiliary_0", "loss/total", "metric/miou"} <= names
    parameters = {f"gradient/{name}" for name, _ in checkpoint.build().named_parameters()}
    assert parameters <= names and "statistics/head.block.norm.running_var" in names


def test_a_changed_weight_shows_where_it_acts(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    first = saved(checkpoint, tmp_path / "a.pt")
    # a bias of the auxiliary head alone: the main output stays, its gradients do not
    moved = checkpoint.weights["auxiliary_heads.8.classifier.bias"] + torch.tensor([0.0, 0.3, -0.3])
    names = failed(saved(checkpoint, tmp_path / "b.pt", auxiliary_heads__8__classifier__bias=moved), first)
    assert {"logits/auxiliary_0", "loss/auxiliary_0", "loss/total"} <= names
    assert "logits/main" not in names and "gradient/backbone.layer3.0.reduce.conv.weight" in names
    # the running statistics act in evaluation alone, but have to agree
    shifted = checkpoint.weights["head.block.norm.running_mean"] + 1
    assert failed(saved(checkpoint, tmp_path / "c.pt", head__block__norm__running_mean=shifted), first) == {
        "statistics/head.block.norm.running_mean"
    }


def test_tolerances_decide(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    first = saved(checkpoint, tmp_path / "a.pt")
    second = saved(
        checkpoint, tmp_path / "b.pt", head__classifier__weight=checkpoint.weights["head.classifier.weight"] * 1.0001
    )
    assert failed(second, first, forward=1e-6, gradient=1e-6)
    assert not failed(second, first, forward=1e-2, gradient=1e-2)
    with pytest.raises(ValueError, match="the gradient tolerance is 0, expected a relative difference above 0"):
        Tolerances(gradient=0)


def test_recorded_arrays_stand_in_for_a_network(
    checkpoint: NetworkCheckpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, arrays = saved(checkpoint, tmp_path / "a.pt"), tmp_path / "reference.npz"
    app(["align", str(first), "--record", str(arrays), "--precision", "fp32"], standalone_mode=False)
    report = tmp_path / "report.json"
    app(["align", str(first), str(arrays), "--precision", "fp32", "--report", str(report)], standalone_mode=False)
    data = json.loads(report.read_text())
    assert data["aligned"] and len(data["differences"]) > 100
    assert "0 of" in capsys.readouterr().out
    batch, recorded = read_arrays(arrays)
    recorded["gradient/head.classifier.bias"] = recorded["gradient/head.classifier.bias"] * 1.1
    del recorded["loss/main"]
    record_arrays(tmp_path / "other.npz", batch, recorded)
    again = align(first, tmp_path / "other.npz", batch=None, precision="fp32", tolerances=Tolerances())
    assert {each.name for each in again.failures} == {"gradient/head.classifier.bias", "loss/main"}
    result = CliRunner().invoke(app, ["align", str(first), str(tmp_path / "other.npz")])
    assert result.exit_code == 1 and "quantities differ by more than the tolerance" in result.output


def test_another_network_differs_and_other_classes_are_refused(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    first = saved(checkpoint, tmp_path / "a.pt")
    architecture = ICNetArchitecture(width_factor=0.125)
    icnet = saved(
        NetworkCheckpoint(architecture, FACTS, (64, 96), architecture.build(3).state_dict()), tmp_path / "icnet.pt"
    )
    assert {"logits/main", "gradient/detail.0.conv.weight", "gradient/head.classifier.bias"} <= failed(first, icnet)
    facts = replace(FACTS, class_names=("a", "b"), colors=FACTS.colors[:2])
    two = NetworkCheckpoint(architecture, facts, (64, 96), architecture.build(2).state_dict())
    with pytest.raises(ValueError, match="has 3 classes, .* has 2; they cannot see the same labels"):
        failed(first, saved(two, tmp_path / "two.pt"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits/main": np.zeros(3)}, "holds no batch/image of 4 dimensions"),
        ({"batch/image": np.zeros((1, 3, 64, 64)), "batch/label": np.full((1, 64, 64), 7)}, r"has the labels \[7\]"),
        ({"batch/image": np.array([{}], dtype=object)}, "cannot be read as an .npz file of plain arrays"),
    ],
)
def test_damaged_arrays_are_named(
    checkpoint: NetworkCheckpoint, tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        failed(saved(checkpoint, tmp_path / "a.pt"), tmp_path / "bad.npz")


def test_images_of_a_dataset_are_a_batch_too(
    checkpoint: NetworkCheckpoint, write_experiment: Callable[..., Path], tmp_path: Path
) -> None:
    first = saved(checkpoint, tmp_path / "a.pt")
    app(["align", str(first), str(first), "--config", str(write_experiment())], standalone_mode=False)
    with pytest.raises(ValueError, match="one of both"):
        app(["align", str(first)], standalone_mode=False)
    with pytest.raises(ValueError, match=r"arrays\.npz brings the batch that it was recorded on; leave --config out"):
        app(["align", str(first), "arrays.npz", "--config", "experiment.yaml"], standalone_mode=False)
