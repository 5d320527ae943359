"""Run folders: whose they are, what they record, and that nothing is overwritten."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from fasterseg.base.devices import DeviceConfig
from fasterseg.base.experiment import Section
from fasterseg.base.locks import LOCK_NAME, FolderInUseError, FolderLock
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
    split: str = "train"
    validate_every: int = 1
    accumulation: int = 1
    memory_saving: bool = False
    lr: float = 0.1
    device: DeviceConfig = DeviceConfig()


def test_settings_of_a_training_hold_the_images_of_a_step_and_not_who_computes_them() -> None:
    one = training_settings(StageSection(accumulation=2, memory_saving=True), processes=1)
    two = training_settings(StageSection(batch_size=2, device=DeviceConfig(devices=2, threads=1)), processes=2)
    assert (
        one
        == two
        == {
            "split": "train",
            "validate_every": 1,
            "lr": 0.1,
            "images_per_step": 4,
            "precision": "fp32",
        }
    )
    half = training_settings(StageSection(device=DeviceConfig(precision="bf16")), processes=2)
    assert (half["images_per_step"], half["precision"]) == (8, "bf16")


class ShowingSection(StageSection):
    log_every: int = 20
    example_count: int = 4
    save_every_minutes: float = 10.0


def opened(path: Path, section: StageSection) -> dict[str, Any]:
    """The settings that the folder holds after it was opened with that section."""
    with open_run_folder(path, stage="student", settings={"student": training_settings(section, processes=1)}):
        settings: dict[str, Any] = yaml.safe_load((path / "config.yaml").read_text())["settings"]["student"]
    return settings


def test_what_only_shows_or_saves_may_change_in_a_folder(tmp_path: Path) -> None:
    assert opened(tmp_path, ShowingSection())["shown"]["log_every"] == 20
    changed = opened(tmp_path, ShowingSection(log_every=5, example_count=0, save_every_minutes=1.0))
    assert changed["shown"] == {"log_every": 5, "example_count": 0, "save_every_minutes": 1.0}
    with pytest.raises(ValueError, match=r"student\.validate_every is 1 there, 2 here"):
        opened(tmp_path, ShowingSection(validate_every=2))
    with pytest.raises(ValueError, match=r"student\.lr is 0\.1 there, 0\.2 here; choose"):
        opened(tmp_path, ShowingSection(lr=0.2, log_every=7))
    assert opened(tmp_path, ShowingSection())["shown"]["log_every"] == 20


def test_validation_may_change_where_the_last_epoch_is_the_best(tmp_path: Path) -> None:
    opened(tmp_path, ShowingSection(split="train_val"))
    assert opened(tmp_path, ShowingSection(split="train_val", validate_every=9))["shown"]["validate_every"] == 9


def test_a_folder_of_an_older_release_has_them_among_the_others_and_goes_on(tmp_path: Path) -> None:
    old = {
        "lr": 0.1,
        "split": "train",
        "validate_every": 1,
        "images_per_step": 4,
        "precision": "fp32",
        "log_every": 3,
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"stage": "student", "settings": {"student": old}}))
    assert opened(tmp_path, ShowingSection())["shown"]["log_every"] == 20


def test_one_process_writes_at_a_time_and_reading_needs_no_lock(tmp_path: Path) -> None:
    with open_run_folder(tmp_path, stage="student", settings=SETTINGS) as folder:
        folder.metrics(1, {"loss": 0.5})
        with pytest.raises(FolderInUseError, match="is in use: process"):
            open_run_folder(tmp_path, stage="student", settings=SETTINGS)
        assert RunFolder(tmp_path, stage="student", writes=False).read_metrics() == [{"step": 1, "loss": 0.5}]
    FolderLock(tmp_path).release()


def test_a_refused_folder_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="not empty"):
        open_run_folder(tmp_path, stage="student", settings=SETTINGS)
    assert not (tmp_path / LOCK_NAME).exists()


def test_a_kill_at_the_first_file_leaves_a_folder_that_can_be_used(tmp_path: Path) -> None:
    code = (
        "import os\nfrom pathlib import Path\nfrom fasterseg.engine.run_folder import open_run_folder\n"
        "Path.replace = lambda *_: os.kill(os.getpid(), 9)\n"
        f"open_run_folder(Path({str(tmp_path)!r}), stage='student', settings={SETTINGS!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    left = {path.name for path in tmp_path.iterdir()}
    assert any(name.startswith(".config.yaml.") for name in left) and "config.yaml" not in left
    with open_run_folder(tmp_path, stage="student", settings=SETTINGS):
        assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "environment.json", LOCK_NAME}


@pytest.mark.parametrize("content", ["", "{", "[]", "\0\0\0"])
def test_a_torn_summary_is_none(tmp_path: Path, content: str) -> None:
    with open_run_folder(tmp_path, stage="student", settings=SETTINGS) as folder:
        (tmp_path / "summary.json").write_text(content)
        assert not folder.is_finished and not folder.finished(folder.best)
        with pytest.raises(FileNotFoundError, match=r"no whole .*summary\.json"):
            folder.summary()
        folder.finish({"miou": 0.5})
        assert folder.summary() == {"miou": 0.5}


@pytest.mark.parametrize("content", ["", "\0\0\0"])
def test_an_empty_config_is_written_again_where_nothing_is_lost(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "environment.json").write_text("")
    with open_run_folder(tmp_path, stage="student", settings=SETTINGS):
        assert yaml.safe_load((tmp_path / "config.yaml").read_text())["stage"] == "student"
        assert json.loads((tmp_path / "environment.json").read_text())["python"]
    (tmp_path / "config.yaml").write_text(content)
    (tmp_path / "last.pt").write_text("days of work")
    with pytest.raises(ValueError, match=r"config\.yaml is empty.*restore it from a copy"):
        open_run_folder(tmp_path, stage="student", settings=SETTINGS)


def test_a_finished_run_in_a_read_only_place_can_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_run_folder(tmp_path, stage="student", settings=SETTINGS) as folder:
        (tmp_path / "best.pt").touch()

        def refuse(_folder: Path) -> FolderLock:
            raise PermissionError(13, "Permission denied", str(tmp_path / LOCK_NAME))

        monkeypatch.setattr("fasterseg.engine.run_folder.FolderLock", refuse)
        with pytest.raises(PermissionError):
            open_run_folder(tmp_path, stage="student", settings=SETTINGS)
        folder.finish({})
        files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        with open_run_folder(tmp_path, stage="student", settings=SETTINGS) as finished:
            assert finished.finished(finished.best)
        assert files == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_the_environment_names_the_commit_of_a_checkout(tmp_path: Path) -> None:
    folder = open_run_folder(tmp_path, stage="student", settings=SETTINGS)
    checkout = json.loads((folder.path / "environment.json").read_text())["checkout"]
    assert checkout is None or (len(checkout["commit"]) == 40 and isinstance(checkout["clean"], bool))
