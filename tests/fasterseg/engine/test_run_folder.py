"""Run folders: whose they are, what they record, and that nothing is overwritten."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fasterseg.base.devices import DeviceConfig
from fasterseg.base.experiment import Section
from fasterseg.engine.run_folder import RunFolder, open_run_folder, training_settings

SETTINGS = {"seed": 0, "student": {"epochs": 10, "crop_size_px": (64, 128)}}


def records(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder.path / "metrics.jsonl").read_text().splitlines()]


def test_same_settings_go_on_and_others_are_refused(tmp_path: Path) -> None:
    open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS).close()
    open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS).close()
    changed = {"seed": 0, "student": {"epochs": 20, "crop_size_px": (64, 128)}}
    with pytest.raises(ValueError, match="in use by another experiment: student.epochs is 10 there, 20 here; choose"):
        open_run_folder(tmp_path / "run", stage="student", settings=changed)
    with pytest.raises(ValueError, match="stage is student there, teacher here"):
        open_run_folder(tmp_path / "run", stage="teacher", settings=SETTINGS)


def test_a_folder_of_unknown_origin_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"not empty and has no config\.yaml"):
        open_run_folder(tmp_path, stage="student", settings=SETTINGS)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ValueError, match="choose another --out"):
        open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS)


def test_an_empty_folder_can_be_used_and_describes_its_environment(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path, stage="student", settings=SETTINGS)
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["versions"]["torch"] and environment["threads"] >= 1 and environment["cpu"]


def test_a_damaged_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("stage: [")
    with pytest.raises(ValueError, match="damaged"):
        open_run_folder(tmp_path, stage="student", settings=SETTINGS)


def test_summary_marks_the_end(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS)
    assert not folder.is_finished
    with pytest.raises(FileNotFoundError, match="not finished"):
        folder.summary()
    folder.finish({"miou": 0.5, "per_class_iou": {"car": float("nan")}})
    assert folder.is_finished and folder.summary() == {"miou": 0.5, "per_class_iou": {"car": None}}


def test_metrics_are_recorded_and_rewound(tmp_path: Path) -> None:
    with open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS) as folder:
        folder.metrics(10, {"loss": 1.0, "bad": float("nan")}, prefix="train")
        folder.metrics(20, {"loss": 0.5})
        with (folder.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 30, "lo')  # a cut in the middle of a line
        folder.rewind(10)
        assert records(folder) == [{"step": 10, "train/loss": 1.0, "train/bad": None}]
        folder.picture("example", np.zeros((4, 8, 3), np.uint8), 20)
    assert list((folder.path / "tensorboard").iterdir())


def test_log_goes_to_file_and_console(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with open_run_folder(tmp_path / "run", stage="student", settings=SETTINGS) as folder:
        folder.log("epoch 1: [loss] 0.5")
    assert "epoch 1: [loss] 0.5" in (folder.path / "log.txt").read_text()
    assert "student: epoch 1: [loss] 0.5" in capsys.readouterr().out


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", stage="student", writes=False) as folder:
        folder.log("hello")
        folder.metrics(1, {"loss": 1.0})
        folder.finish({})
    assert not (tmp_path / "run").exists()


class StageSection(Section):
    batch_size: int = 4
    accumulation: int = 1
    memory_saving: bool = False
    lr: float = 0.1
    device: DeviceConfig = DeviceConfig()


def test_settings_of_a_training_hold_the_images_of_a_step_and_not_who_computes_them() -> None:
    one = training_settings(StageSection(accumulation=2, memory_saving=True), processes=1)
    two = training_settings(StageSection(batch_size=2, device=DeviceConfig(devices=2, threads=1)), processes=2)
    assert one == two == {"lr": 0.1, "images_per_step": 4, "precision": "fp32"}
    half = training_settings(StageSection(device=DeviceConfig(precision="bf16")), processes=2)
    assert (half["images_per_step"], half["precision"]) == (8, "bf16")
