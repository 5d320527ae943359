"""Distillation: the teacher counts, stays as it is, and has to fit."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fasterseg.base.experiment import load_experiment
from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import load_network
from train import student, teacher
from train.start import start_fresh
from train.student import run_student
from train.teacher import run_teacher

WriteExperiment = Callable[..., Path]


@pytest.fixture
def teacher_path(write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path) -> Path:
    experiment = load_experiment(write_experiment(epochs=1), [], teacher.SECTIONS)
    return run_teacher(experiment, out=tmp_path / "teacher", start=start_fresh(architecture_path))


def train(tmp_path: Path, teacher_path: Path | None, *overrides: str, out: str = "student") -> Path:
    experiment = load_experiment(tmp_path / "experiment.yaml", overrides, student.SECTIONS)
    return run_student(
        experiment, out=tmp_path / out, start=start_fresh(tmp_path / "architecture.json"), teacher_path=teacher_path
    )


def first_losses(folder: Path) -> dict[str, float]:
    record: dict[str, float] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    return record


def test_the_student_follows_the_teacher(teacher_path: Path, tmp_path: Path) -> None:
    digest = file_digest(teacher_path)
    best = train(tmp_path, teacher_path)
    record = first_losses(tmp_path / "student")
    auxiliary = 0.2 * (record["train/auxiliary_0"] + record["train/auxiliary_1"])
    expected = record["train/main"] + auxiliary + record["train/distillation"]
    assert record["train/loss"] == pytest.approx(expected, rel=1e-5) and record["train/distillation"] > 0
    assert load_network(best).origins["teacher"] == digest == file_digest(teacher_path)


def test_the_weight_of_the_teacher_changes_the_student(teacher_path: Path, tmp_path: Path) -> None:
    little = train(tmp_path, teacher_path, "student.distillation_weight=0.1", "student.epochs=1", out="little")
    much = train(tmp_path, teacher_path, "student.distillation_weight=50", "student.epochs=1", out="much")
    weights = [load_network(path).weights["head.classifier.weight"] for path in (little, much)]
    assert not torch.equal(*weights)


def test_without_distillation_no_teacher_is_needed(teacher_path: Path, tmp_path: Path) -> None:
    overrides = ("student.distillation_weight=0", "student.epochs=1")
    alone = train(tmp_path, None, *overrides, out="alone")
    ignored = train(tmp_path, teacher_path, *overrides, out="ignored")
    assert "train/distillation" not in first_losses(tmp_path / "alone")
    assert load_network(alone).origins == load_network(ignored).origins
    with pytest.raises(ValueError, match="distillation_weight is 1.0, but no teacher is given"):
        train(tmp_path, None, out="none")


def test_a_teacher_that_does_not_fit_is_refused(
    teacher_path: Path, tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    other = write_dataset("four", classes=("ground", "block", "sky", "sea"))
    with pytest.raises(ValueError, match=r"trained for 3 classes \(ground, block, sky\), but 4 are asked for"):
        train(tmp_path, teacher_path, f"dataset.root={other}")
    with pytest.raises(ValueError, match="is a training state, not a network"):
        train(tmp_path, teacher_path.with_name("last.pt"))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        train(tmp_path, tmp_path / "nowhere.pt")
    assert not (tmp_path / "student").exists()
