"""The training stage on colour blocks: it learns, repeats, goes on exactly, and says what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fasterseg.base.experiment import load_experiment
from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import load_network, load_state
from fasterseg.engine.devices import seed_everything
from fasterseg.engine.losses import OhemCrossEntropy
from fasterseg.networks import Architecture, DerivedNetwork, count_parameters
from train import stages, trainer
from train.stages import run_teacher
from train.start import start_fresh

WriteExperiment = Callable[..., Path]


def train(file: Path, architecture_path: Path, out: Path, *overrides: str) -> Path:
    experiment = load_experiment(file, overrides, stages.TEACHER_SECTIONS)
    return run_teacher(experiment, out=out, start=start_fresh(architecture_path))


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["train/loss"] for line in lines if "train/loss" in line]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = load_state(folder / "last.pt")["stage"]["network"]
    return tensors


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_loss_falls_and_the_best_network_is_kept(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path, optimizer: str
) -> None:
    file = write_experiment(optimizer=optimizer, epochs=6, iterations_per_epoch=8, schedule="poly", warm_up_steps=2)
    best = train(file, architecture_path, tmp_path / "out")
    seen = losses(tmp_path / "out")
    assert np.mean(seen[-4:]) < 0.85 * np.mean(seen[:2])
    checkpoint = load_network(best)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert checkpoint.scores["miou"] == summary["miou"] > 0.6
    assert checkpoint.architecture == Architecture.load(architecture_path)
    assert checkpoint.origins == {"architecture": file_digest(architecture_path)} == summary["origins"]
    assert (checkpoint.input_size, checkpoint.dataset.class_names) == ((64, 96), ("ground", "block", "sky"))
    assert summary["parameters"] == count_parameters(checkpoint.build())
    assert set(summary["per_class_iou"]) == {"ground", "block", "sky"} and summary["gmacs"] > 0
    assert list((tmp_path / "out/tensorboard").iterdir())


def test_two_runs_with_one_seed_give_the_same_losses(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    file = write_experiment()
    for name in ("first", "second"):
        train(file, architecture_path, tmp_path / name)
    train(file, architecture_path, tmp_path / "other", "seed=6")
    first, second, other = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("first", "second", "other"))
    assert first == second != other


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_cut_run_ends_as_an_uncut_one(
    write_experiment: WriteExperiment,
    architecture_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
) -> None:
    file = write_experiment(optimizer=optimizer)
    train(file, architecture_path, tmp_path / "whole")
    step = trainer.NetworkStage.step

    def cut(self: trainer.NetworkStage, batch: Any, position: Any) -> Any:
        if position.step == 9:
            raise KeyboardInterrupt
        return step(self, batch, position)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer.NetworkStage, "step", cut)
        train(file, architecture_path, tmp_path / "cut")
    assert not (tmp_path / "cut/summary.json").exists()
    train(file, architecture_path, tmp_path / "cut")
    assert (tmp_path / "cut/metrics.jsonl").read_text() == (tmp_path / "whole/metrics.jsonl").read_text()
    whole = weights(tmp_path / "whole")
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "cut").items())


def test_a_finished_stage_is_not_run_again(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_experiment(epochs=1)
    best = train(file, architecture_path, tmp_path / "out")
    before = best.stat().st_mtime_ns
    assert train(file, architecture_path, tmp_path / "out") == best
    assert best.stat().st_mtime_ns == before
    assert "is finished already" in capsys.readouterr().out


def test_a_folder_of_other_settings_or_another_architecture_is_refused(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    file = write_experiment(epochs=1)
    train(file, architecture_path, tmp_path / "out")
    with pytest.raises(ValueError, match="in use by another experiment: teacher.epochs is 1 there, 2 here"):
        train(file, architecture_path, tmp_path / "out", "teacher.epochs=2")
    changed = json.loads(architecture_path.read_text())
    changed["branches"][1][1]["operator"] = "conv"
    architecture_path.write_text(json.dumps(changed))
    with pytest.raises(ValueError, match=r"in use by another experiment: origins\.architecture"):
        train(file, architecture_path, tmp_path / "out")
    # how many processes read the images changes nothing
    architecture_path.write_text(json.dumps(changed))
    train(file, architecture_path, tmp_path / "new")
    train(file, architecture_path, tmp_path / "new", "dataset.num_workers=3")


def test_training_on_train_val_keeps_the_last_epoch(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    best = train(write_experiment(split="train_val", lr=1e-4), architecture_path, tmp_path / "out")
    assert json.loads((tmp_path / "out/summary.json").read_text())["best_epoch"] == 3
    last = weights(tmp_path / "out")
    assert all(torch.equal(value, last[name]) for name, value in load_network(best).weights.items())


def test_test_predictions_are_written_when_due(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    train(write_experiment(predict_test_every=2), architecture_path, tmp_path / "out")
    folders = sorted(path.name for path in (tmp_path / "out/test_predictions").iterdir())
    assert folders == ["epoch_0002"]
    masks = sorted((tmp_path / "out/test_predictions/epoch_0002/index").rglob("*.png"))
    assert [path.name for path in masks] == ["test_0.png", "test_1.png"]
    ids = np.asarray(Image.open(masks[0]))
    assert ids.shape == (64, 96) and ids.max() < 3


def test_images_without_labels_leave_the_loss_finite(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    root = write_dataset("unlabelled")
    for mask in (root / "train").glob("*_mask.png"):
        Image.fromarray(np.full((64, 96), 255, np.uint8)).save(mask)
    train(write_experiment(root=root, epochs=1), architecture_path, tmp_path / "out")
    assert losses(tmp_path / "out") == [0.0, 0.0]


def test_a_diverging_run_stops_and_names_the_head(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"teacher: loss is not finite at step \d+ .*main = nan.*Lower teacher.lr"):
        train(write_experiment(lr=1e30), architecture_path, tmp_path / "out")


def test_missing_inputs_are_named(write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path) -> None:
    file = write_experiment()
    with pytest.raises(FileNotFoundError, match="no architecture at .*search search"):
        train(file, tmp_path / "nowhere.json", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no dataset at"):
        train(file, architecture_path, tmp_path / "out", f"dataset.root={tmp_path}/nowhere")
    with pytest.raises(ValueError, match="no split 'training'; it has"):
        train(file, architecture_path, tmp_path / "out2", "dataset.train_split=training")


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"lr_decay": 0.5}, [0.02, 0.01, 0.005]),
        ({"schedule": "poly", "poly_power": 1.0}, [0.02 * 9 / 12, 0.02 * 5 / 12, 0.02 * 1 / 12]),
        ({"lr_decay": 1.0, "warm_up_steps": 7}, [0.01, 0.02, 0.02]),
    ],
)
def test_the_learning_rate_follows_its_schedule(
    write_experiment: WriteExperiment,
    architecture_path: Path,
    tmp_path: Path,
    settings: dict[str, Any],
    rates: list[float],
) -> None:
    train(write_experiment(**settings), architecture_path, tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch/lr"] for line in lines if "epoch/lr" in line] == pytest.approx(rates)


def test_clipped_gradients_move_the_weights_no_further(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path
) -> None:
    train(write_experiment(epochs=1, grad_clip=1e-9, weight_decay=0), architecture_path, tmp_path / "out")
    seed_everything(5)
    fresh = DerivedNetwork(Architecture.load(architecture_path), 3)
    trained = weights(tmp_path / "out")
    assert all(torch.allclose(value, trained[name], atol=1e-7) for name, value in fresh.named_parameters())


def test_a_larger_label_stride_compares_at_that_size(
    write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = set()
    forward = OhemCrossEntropy.forward

    def watch(self: OhemCrossEntropy, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sizes.add(tuple(labels.shape[1:]))
        return forward(self, logits, labels)

    monkeypatch.setattr(OhemCrossEntropy, "forward", watch)
    train(write_experiment(epochs=1, label_stride=4), architecture_path, tmp_path / "out")
    assert sizes == {(16, 24)}
