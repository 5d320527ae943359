"""`train compare`: run folders, checkpoints, exported files and presets in one table."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.runtime.export import export_checkpoint
from latency.measure import Measured
from latency.results import MeasuredNetwork
from latency.runners.base import Conditions
from tests.made_up_measurement import made_up_measurement
from train import compare, stages
from train.__main__ import app
from train.compare import Candidate, find_candidates, run_compare
from train.stages import run_baseline

WriteExperiment = Callable[..., Path]


@pytest.fixture
def experiment(write_experiment: WriteExperiment) -> Experiment:
    return load_experiment(write_experiment(epochs=1, iterations_per_epoch=1), [], compare.SECTIONS)


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> Path:
    trained = load_experiment(experiment.source, [], stages.BASELINE_SECTIONS)
    return run_baseline(trained, "icnet", out=tmp_path / "icnet").parent


def test_everything_stands_in_one_table(experiment: Experiment, run: Path, tmp_path: Path) -> None:
    exported = export_checkpoint(run / "best.pt", tmp_path / "exported.onnx").path
    candidates = find_candidates([str(run), str(exported), f"again={run / 'best.pt'}", "icnet-half"])
    assert [each.name for each in candidates] == ["icnet", "exported", "again", "icnet-half"]
    out = tmp_path / "out"
    networks = run_compare(
        experiment, candidates, out=out, image_scale=1.0, split="val", runners=["onnxruntime", "openvino"]
    )
    rows = list(csv.DictReader((out / "comparison.csv").open()))
    assert [row["network"] for row in rows] == [each.name for each in candidates]
    trained = json.loads((run / "summary.json").read_text())
    assert float(rows[0]["miou"]) == pytest.approx(trained["miou"], abs=1e-3)
    assert rows[0]["miou"] == rows[2]["miou"] and float(rows[1]["miou"]) == pytest.approx(trained["miou"], abs=0.01)
    assert rows[3]["miou"] == rows[3]["iou/sky"] == "" and int(rows[3]["parameters"]) > int(rows[0]["parameters"])
    assert rows[0]["parameters"] == rows[1]["parameters"] and rows[0]["gmacs"] == rows[1]["gmacs"]
    assert all(float(row[f"{runner}_ms"]) > 0 for row in rows for runner in ("onnxruntime", "openvino"))
    assert networks[0].scores is not None and networks[3].scores is None
    data = json.loads((out / "comparison.json").read_text())
    assert data[0]["times"]["openvino"]["conditions"]["runner"] == "openvino"
    page = (out / "comparison.md").read_text()
    assert "| network | miou | parameters | gmacs | onnxruntime_ms |" in page and "| block |" in page
    for runner in ("onnxruntime", "openvino"):
        assert np.asarray(Image.open(out / f"tradeoff_{runner}.png")).std() > 5


def test_a_runner_that_cannot_run_a_file_leaves_its_cells_empty(
    experiment: Experiment, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch runs no exported file; whatever the order, every network keeps its own times."""
    exported = export_checkpoint(run / "best.pt", tmp_path / "exported.onnx").path
    times = {"icnet": {"onnxruntime": 2.0, "pytorch": 30.0}, "exported": {"onnxruntime": 1.0}}

    def measure(_: Experiment, networks: list[str], **__: object) -> Measured:
        names = ["exported" if network.endswith(".onnx") else "icnet" for network in networks]
        return Measured(tuple(tuple(made_up(name, runner, ms) for runner, ms in times[name].items()) for name in names))

    monkeypatch.setattr(compare, "run_measure", measure)
    for number, models in enumerate(([run, exported], [exported, run])):
        out = tmp_path / str(number)
        candidates = find_candidates([str(model) for model in models])
        run_compare(experiment, candidates, out=out, image_scale=1.0, split="val", runners=["onnxruntime", "pytorch"])
        rows = {row["network"]: row for row in csv.DictReader((out / "comparison.csv").open())}
        assert (rows["exported"]["onnxruntime_ms"], rows["exported"]["pytorch_ms"]) == ("1", "")
        assert (rows["icnet"]["onnxruntime_ms"], rows["icnet"]["pytorch_ms"]) == ("2", "30")
        assert rows["icnet"]["pytorch_stable"] == "NO" and rows["exported"]["pytorch_device"] == ""
        assert [rows["icnet"][f"pytorch_{name}"] for name in ("device", "mode", "precision", "threads")] == [
            "cpu",
            "default",
            "fp32",
            "1",
        ]
        page = (out / "comparison.md").read_text()
        assert "| pytorch_stable |" in page and "onnxruntime_stable" not in page
        for runner in ("onnxruntime", "pytorch"):
            assert np.asarray(Image.open(out / f"tradeoff_{runner}.png")).std() > 5


def made_up(name: str, runner: str, ms: float) -> MeasuredNetwork:
    """A row as if it had been measured; PyTorch's times are unsteady."""
    conditions = Conditions(runner, "cpu", "a processor", 1, "fp32", {})
    measurement = made_up_measurement(ms, conditions, stable=runner != "pytorch")
    return MeasuredNetwork(name, name, runner, measurement)


def test_the_command_line_writes_into_the_experiments_folder(
    experiment: Experiment, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", str(run), "--config", str(experiment.source), "--set", "target.runner=onnxruntime"]
    app(arguments, standalone_mode=False)
    assert (tmp_path / "runs/tiny/compare/comparison.csv").is_file()


def test_what_cannot_be_compared_is_named(
    experiment: Experiment, run: Path, tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    with pytest.raises(FileNotFoundError, match="no network at nothing; name a run folder.*presets fasterseg-student"):
        find_candidates(["nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no best\.pt in .*empty"):
        find_candidates([str(tmp_path / "empty")])
    with pytest.raises(ValueError, match="several networks are called icnet; name them apart as NAME=MODEL"):
        find_candidates([str(run), "icnet"])
    other = write_dataset("other", classes=("ground", "block", "sea"))
    renamed = load_experiment(experiment.source, [f"dataset.root={other}"], compare.SECTIONS)
    candidates = (Candidate("icnet", str(run / "best.pt")),)
    with pytest.raises(ValueError, match=r"trained for 3 classes \(ground, block, sky\)"):
        run_compare(renamed, candidates, out=tmp_path / "out", image_scale=1.0, split="val")
