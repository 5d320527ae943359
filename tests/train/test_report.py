"""The comparison page: what counts as meeting the budget, and what is written."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fasterseg.base.experiment import load_experiment
from latency.config import LatencyConfig, TargetConfig
from train import evaluate, report, stages
from train.report import ReportRow, draw_predictions, write_report
from train.stages import run_teacher
from train.start import start_fresh

ROW = ReportRow(
    role="student",
    parameters=1234567,
    gmacs=0.5,
    miou=0.61,
    exported_miou=0.611,
    table_sum_ms=3.0,
    predicted_ms=2.5,
    measured_ms=2.6,
    paced_ms=2.55,
    spread=0.02,
    budget_ms=2.5,
)


@pytest.mark.parametrize(
    ("predicted_ms", "measured_ms", "verdict"),
    [
        (2.5, 2.75, "predicted met, measured met (within 1.1×)"),
        (2.5, 2.76, "predicted met, measured MISSED (within 1.1×)"),
        (2.51, 2.0, "predicted MISSED, measured met (within 1.1×)"),
    ],
)
def test_the_budget_holds_in_prediction_and_within_a_tenth_measured(
    predicted_ms: float, measured_ms: float, verdict: str
) -> None:
    assert replace(ROW, predicted_ms=predicted_ms, measured_ms=measured_ms).verdict == verdict
    assert replace(ROW, budget_ms=None).verdict == "no budget"


def test_it_is_said_which_runner_was_taken_and_why(
    write_experiment: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sections = {"target": TargetConfig, "latency": LatencyConfig}
    experiment = load_experiment(write_experiment(), ["target.device=cpu"], sections)
    asked: dict[str, Any] = {}

    def measure_nothing(*_: object, **settings: Any) -> tuple[list[Any], tuple[Any, ...]]:
        asked.update(settings)
        return [], ()

    monkeypatch.setattr(report, "measure_deployed", measure_nothing)
    assert report.build_report(experiment, (), table=None) == ()  # type: ignore[arg-type]
    assert asked["protocol"] == experiment.section("latency", LatencyConfig)
    assert asked["reference_runner"].name == "onnxruntime"
    assert "measuring with onnxruntime on cpu (target.runner is auto; " in capsys.readouterr().out


def test_report_is_written_for_people_and_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (replace(ROW, role="teacher", budget_ms=None), ROW)
    write_report(rows, tmp_path, conditions={"runner": "onnxruntime"})
    data = json.loads((tmp_path / "report.json").read_text())
    assert [network["role"] for network in data["networks"]] == ["teacher", "student"]
    assert data["networks"][1]["predicted_ms"] == 2.5 and data["conditions"] == {"runner": "onnxruntime"}
    page = (tmp_path / "report.md").read_text()
    assert "| parameters | 1,234,567 | 1,234,567 |" in page and "- runner: onnxruntime" in page
    assert "1,234,567" in capsys.readouterr().out


def test_predictions_are_drawn_beside_image_and_label(
    write_experiment: Callable[..., Path], architecture_path: Path, tmp_path: Path
) -> None:
    file = write_experiment(epochs=1)
    trained = load_experiment(file, [], stages.TEACHER_SECTIONS)
    best = run_teacher(trained, out=tmp_path / "teacher", start=start_fresh(architecture_path))
    experiment = load_experiment(file, [], evaluate.SECTIONS)
    draw_predictions(experiment, best, tmp_path / "predictions.png", stage="teacher")
    picture = np.asarray(Image.open(tmp_path / "predictions.png"))
    # two validation images below each other; image, label, prediction beside each other
    assert picture.shape == (2 * 64, 3 * 96, 3)
    colors = {tuple(color) for color in picture[:, 96:].reshape(-1, 3).tolist()}
    assert colors <= {(0, 0, 0), (60, 60, 60), (220, 60, 40), (130, 180, 240)}
