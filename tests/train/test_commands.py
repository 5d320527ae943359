"""The command line: stages follow each other, and say what they wrote and what comes next."""

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fasterseg.base.commandline import run_app
from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import load_network
from train.__main__ import app


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    commands = ("teacher", "student", "baseline", "prune", "evaluate", "compare", "align")
    assert all(command in result.output for command in commands)


def test_stages_follow_each_other(
    write_experiment: Callable[..., Path],
    architecture_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(write_experiment(epochs=1))
    search = tmp_path / "runs/tiny/search"
    search.mkdir(parents=True)
    for role in ("teacher", "student"):
        (search / f"architecture_{role}.json").write_bytes(architecture_path.read_bytes())
    output = []
    for command in ("teacher", "student", "evaluate"):
        app([command, "--config", file], standalone_mode=False)
        output.append(" ".join(capsys.readouterr().out.split()))
    assert "wrote runs/tiny/teacher/best.pt" in output[0]
    assert f"next: python -m train student --config {file}" in output[0]
    assert "next: fasterseg export runs/tiny/student/best.pt --out runs/tiny/student/best.onnx" in output[1]
    assert "confusion.csv" in output[2] and "mIoU" in output[2]
    assert len(list((tmp_path / "runs/tiny/evaluate").iterdir())) == 1


def test_a_users_error_is_one_message(
    write_experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(write_experiment())
    monkeypatch.setattr("sys.argv", ["train", "teacher", "--config", file, "--set", "teacher.epoch=1"])
    with pytest.raises(SystemExit) as exit_info:
        run_app(app)
    assert exit_info.value.code == 2
    assert "teacher.epoch: unknown key; did you mean 'epochs'?" in capsys.readouterr().err


def test_a_baseline_is_the_students_teacher(
    write_experiment: Callable[..., Path],
    architecture_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(write_experiment(epochs=1, iterations_per_epoch=1))
    options = ["--config", file, "--set", "student.teacher=icnet", "--architecture", str(architecture_path)]
    with pytest.raises(FileNotFoundError, match="runs/tiny/baselines/icnet/best.pt"):
        app(["student", *options], standalone_mode=False)
    app(["baseline", "icnet", "--config", file], standalone_mode=False)
    assert "wrote runs/tiny/baselines/icnet/best.pt" in " ".join(capsys.readouterr().out.split())
    app(["student", *options], standalone_mode=False)
    origins = load_network(tmp_path / "runs/tiny/student/best.pt").origins
    assert origins["teacher"] == file_digest(tmp_path / "runs/tiny/baselines/icnet/best.pt")


def test_a_checkpoint_has_its_own_architecture(write_experiment: Callable[..., Path], architecture_path: Path) -> None:
    options = ["--config", str(write_experiment()), "--start-from", "best.pt", "--architecture", str(architecture_path)]
    with pytest.raises(ValueError, match="--architecture and --start-from are both given"):
        app(["teacher", *options], standalone_mode=False)
