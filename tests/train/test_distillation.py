"""Distillation: the teacher counts, stays as it is and has to fit; its logits are cached where crops repeat."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from fasterseg.base.experiment import load_experiment
from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import load_network, load_state
from fasterseg.networks import Network
from fasterseg.networks.families import build_network, load_architecture
from fasterseg.networks.network import SegmentationLogits
from train import stages
from train.distillation import CACHE_FOLDER, TeacherLogits
from train.stages import run_student, run_teacher
from train.start import start_fresh

WriteExperiment = Callable[..., Path]


class Counting(Network):
    """A network that counts the images it has seen."""

    def __init__(self, network: Network, factor: float = 1.0) -> None:
        super().__init__()
        self.network, self.factor, self.asked = network, factor, 0

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        self.asked += len(image)
        logits: SegmentationLogits = self.network(image)
        return SegmentationLogits(self.factor * logits.main)


@pytest.fixture
def counting(architecture_path: Path) -> Counting:
    torch.manual_seed(0)
    return Counting(build_network(load_architecture(architecture_path), 3))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / CACHE_FOLDER
    path.mkdir()
    return path


@pytest.fixture
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def test_a_cached_image_is_not_asked_about_again(counting: Counting, fabric: Fabric, folder: Path) -> None:
    image = torch.randn(3, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    plain = TeacherLogits(counting, fabric)(image)
    assert not plain.requires_grad and not counting.training
    counting.asked = 0
    cached = TeacherLogits(counting, fabric, cache=folder)
    first = cached(image[:2])
    assert counting.asked == len(list(folder.iterdir())) == 2
    # another order, another batch, another memory layout, another process
    again = TeacherLogits(counting, fabric, cache=folder)(image[[1, 0, 2]].contiguous())
    assert counting.asked == 3
    assert torch.equal(again[:2], first[[1, 0]])
    torch.testing.assert_close(again[[1, 0, 2]], plain, rtol=1e-3, atol=1e-3)
    # the mirrored image and one that differs in a single value are others
    cached(image[:1].flip(3))
    changed = image[:1].clone()
    changed[0, 0, 0, 0] += 1e-3
    cached(changed)
    assert counting.asked == 5


def test_logits_beyond_half_precision_are_refused(counting: Counting, fabric: Fabric, folder: Path) -> None:
    counting.factor = 1e8
    with pytest.raises(ValueError, match="not finite in half precision"):
        TeacherLogits(counting, fabric, cache=folder)(torch.randn(1, 3, 64, 96))
    assert list(folder.iterdir()) == []


def test_a_damaged_file_is_named(counting: Counting, fabric: Fabric, folder: Path) -> None:
    image = torch.randn(1, 3, 64, 96)
    cached = TeacherLogits(counting, fabric, cache=folder)
    cached(image)
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(ValueError, match=f"{file.name} is damaged"):
        cached(image)


@pytest.fixture
def train(write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path) -> Callable[..., Path]:
    """Trains a student of a teacher on images of the crop's size."""
    file = write_experiment(scales=[1.0])
    taught = run_teacher(
        load_experiment(file, ["teacher.epochs=1"], stages.TEACHER_SECTIONS),
        out=tmp_path / "teacher",
        start=start_fresh(architecture_path),
    )

    def run(out: str, *overrides: str) -> Path:
        experiment = load_experiment(file, overrides, stages.STUDENT_SECTIONS)
        run_student(experiment, out=tmp_path / out, start=start_fresh(architecture_path), teacher_path=taught)
        return tmp_path / out

    return run


def test_a_student_learns_the_same_from_cached_logits(train: Callable[..., Path]) -> None:
    two = "student.epochs=2"  # in the second one images come back, and differences are not yet multiplied by many steps
    cached, computed = train("cached", "student.cache_teacher_logits=true", two), train("computed", two)
    untrained = train("untrained", "student.lr=1e-12", two)
    # eight images, each as it is or mirrored
    files = list((cached / CACHE_FOLDER).iterdir())
    assert 8 <= len(files) <= 16 and np.load(files[0]).dtype == np.float16
    assert not (computed / CACHE_FOLDER).exists()
    records = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[0]) for folder in (cached, computed)]
    assert records[0]["train/distillation"] == pytest.approx(records[1]["train/distillation"], rel=1e-2)
    found, expected, before = (
        load_state(folder / "last.pt")["stage"]["network"]["head.classifier.weight"]
        for folder in (cached, computed, untrained)
    )
    # rounding to half precision gives up to 0.0024 of the way, another image's logits 0.09
    assert (found - expected).norm() < 0.02 * (expected - before).norm()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("student.scales=[0.75,1.0]", r"student\.scales \[0\.75, 1\.0\] makes every crop another one"),
        ("student.crop_size_px=[64,64]", r"train_0\.png is 64x96 after scaling and crops are 64x64"),
        ("student.image_scale=2", r"is 128x192 after scaling and crops are 64x96"),
    ],
)
def test_random_crops_are_refused(train: Callable[..., Path], tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train("student", override, "student.cache_teacher_logits=true")
    assert not (tmp_path / "student").exists()


@pytest.fixture
def teacher_path(write_experiment: WriteExperiment, architecture_path: Path, tmp_path: Path) -> Path:
    experiment = load_experiment(write_experiment(epochs=1), [], stages.TEACHER_SECTIONS)
    return run_teacher(experiment, out=tmp_path / "teacher", start=start_fresh(architecture_path))


def train_student(tmp_path: Path, teacher_path: Path | None, *overrides: str, out: str = "student") -> Path:
    experiment = load_experiment(tmp_path / "experiment.yaml", overrides, stages.STUDENT_SECTIONS)
    return run_student(
        experiment, out=tmp_path / out, start=start_fresh(tmp_path / "architecture.json"), teacher_path=teacher_path
    )


def first_losses(folder: Path) -> dict[str, float]:
    record: dict[str, float] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    return record


def test_the_student_follows_the_teacher(teacher_path: Path, tmp_path: Path) -> None:
    digest = file_digest(teacher_path)
    best = train_student(tmp_path, teacher_path)
    record = first_losses(tmp_path / "student")
    auxiliary = 0.2 * (record["train/auxiliary_0"] + record["train/auxiliary_1"])
    expected = record["train/main"] + auxiliary + record["train/distillation"]
    assert record["train/loss"] == pytest.approx(expected, rel=1e-5) and record["train/distillation"] > 0
    assert load_network(best).origins["teacher"] == digest == file_digest(teacher_path)


def test_the_weight_of_the_teacher_changes_the_student(teacher_path: Path, tmp_path: Path) -> None:
    little = train_student(tmp_path, teacher_path, "student.distillation_weight=0.1", "student.epochs=1", out="little")
    much = train_student(tmp_path, teacher_path, "student.distillation_weight=50", "student.epochs=1", out="much")
    weights = [load_network(path).weights["head.classifier.weight"] for path in (little, much)]
    assert not torch.equal(*weights)


def test_without_distillation_no_teacher_is_needed(teacher_path: Path, tmp_path: Path) -> None:
    overrides = ("student.distillation_weight=0", "student.epochs=1")
    alone = train_student(tmp_path, None, *overrides, out="alone")
    ignored = train_student(tmp_path, teacher_path, *overrides, out="ignored")
    assert "train/distillation" not in first_losses(tmp_path / "alone")
    assert load_network(alone).origins == load_network(ignored).origins
    with pytest.raises(ValueError, match="distillation_weight is 1.0, but no teacher is given"):
        train_student(tmp_path, None, out="none")


def test_a_teacher_that_does_not_fit_is_refused(
    teacher_path: Path, tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    other = write_dataset("four", classes=("ground", "block", "sky", "sea"))
    with pytest.raises(ValueError, match=r"trained for 3 classes \(ground, block, sky\), but 4 are asked for"):
        train_student(tmp_path, teacher_path, f"dataset.root={other}")
    with pytest.raises(ValueError, match="is a training state, not a network"):
        train_student(tmp_path, teacher_path.with_name("last.pt"))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        train_student(tmp_path, tmp_path / "nowhere.pt")
    assert not (tmp_path / "student").exists()
