"""Evaluation of checkpoints and exported files."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.engine.evaluation import InferenceMode
from fasterseg.runtime.export import export_checkpoint
from latency.config import TargetConfig
from latency.deployment import Deployment
from latency.runners.selection import choose_runners
from train import evaluate, stages
from train.__main__ import app
from train.evaluate import Evaluation, run_evaluate
from train.stages import run_teacher
from train.start import start_fresh


@pytest.fixture
def experiment(write_experiment: Callable[..., Path]) -> Experiment:
    return load_experiment(write_experiment(), [], evaluate.SECTIONS)


@pytest.fixture
def checkpoint(experiment: Experiment, architecture_path: Path, tmp_path: Path) -> Path:
    trained = load_experiment(experiment.source, [], stages.TEACHER_SECTIONS)
    return run_teacher(trained, out=tmp_path / "teacher", start=start_fresh(architecture_path))


def test_a_checkpoint_scores_as_in_training(experiment: Experiment, checkpoint: Path, tmp_path: Path) -> None:
    scores = run_evaluate(experiment, Evaluation(checkpoint, "val"), out=tmp_path / "out")
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    trained = json.loads((checkpoint.parent / "summary.json").read_text())
    assert scores.miou == summary["miou"] == pytest.approx(trained["miou"], abs=1e-3)
    rows = list(csv.reader((tmp_path / "out/confusion.csv").open()))
    assert rows[0] == ["labelled \\ predicted", "ground", "block", "sky"]
    assert [[int(value) for value in row[1:]] for row in rows[1:]] == scores.confusion.tolist()
    # two rows of every mask are ignored
    assert scores.confusion.sum() == 2 * 62 * 96
    classes = dict(list(csv.reader((tmp_path / "out/classes.csv").open()))[1:])
    assert float(classes["block"]) == pytest.approx(scores.per_class_iou[1], abs=1e-6)
    assert (tmp_path / "out/confusion.png").read_bytes().startswith(b"\x89PNG")


def test_an_exported_file_scores_as_its_checkpoint(experiment: Experiment, checkpoint: Path, tmp_path: Path) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "net.onnx").path
    mode = InferenceMode(flip=True)
    by_file = run_evaluate(experiment, Evaluation(exported, "val", mode=mode), out=tmp_path / "a")
    by_network = run_evaluate(experiment, Evaluation(checkpoint, "val", mode=mode), out=tmp_path / "b")
    assert by_file.miou == pytest.approx(by_network.miou, abs=0.002)
    for unfit in (InferenceMode(scales=(0.75,)), InferenceMode(window_size_px=(32, 32))):
        with pytest.raises(ValueError, match="runs at its exported size 64x96 only"):
            run_evaluate(experiment, Evaluation(exported, "val", mode=unfit), out=tmp_path / "c")


@pytest.mark.parametrize("name", ["openvino", "onnxruntime", "pytorch:channels_last"])
def test_a_runner_scores_as_pytorch_does(
    name: str, experiment: Experiment, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (chosen,) = choose_runners(TargetConfig(device="cpu", input_size=(64, 96)), [name])
    deployment = Deployment(chosen.runner, (64, 96))
    by_runner = run_evaluate(experiment, Evaluation(checkpoint, "val", deployment=deployment), out=tmp_path / "a")
    by_pytorch = run_evaluate(experiment, Evaluation(checkpoint, "val"), out=tmp_path / "b")
    assert by_runner.miou == pytest.approx(by_pytorch.miou, abs=0.002)
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    assert summary["deployment"]["runner"] == name.partition(":")[0] and summary["deployment"]["input_size"] == [64, 96]
    assert "deployment" not in json.loads((tmp_path / "b/summary.json").read_text())


def test_an_exported_file_runs_by_another_runner(experiment: Experiment, checkpoint: Path, tmp_path: Path) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "net.onnx").path
    (chosen,) = choose_runners(TargetConfig(device="cpu"), ["openvino"])
    evaluation = Evaluation(exported, "val", deployment=Deployment(chosen.runner, (64, 96)))
    by_runner = run_evaluate(experiment, evaluation, out=tmp_path / "a")
    by_default = run_evaluate(experiment, Evaluation(exported, "val"), out=tmp_path / "b")
    assert by_runner.miou == pytest.approx(by_default.miou, abs=0.002)
    with pytest.raises(ValueError, match=r"takes images of \(64, 96\), target\.input_size is \(32, 64\)"):
        run_evaluate(
            experiment, Evaluation(exported, "val", deployment=Deployment(chosen.runner, (32, 64))), out=tmp_path / "c"
        )
    scaled = replace(evaluation, mode=InferenceMode(scales=(0.75,)))
    with pytest.raises(ValueError, match="runs at its deployed size 64x96 only"):
        run_evaluate(experiment, scaled, out=tmp_path / "d")


def test_the_command_line_names_the_runner(
    experiment: Experiment, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: list[Evaluation] = []
    monkeypatch.setattr(evaluate, "run_evaluate", lambda _, evaluation, out: given.append(evaluation))
    command = ["evaluate", str(checkpoint), "--config", str(experiment.source)]
    app([*command, "--runner", "pytorch:channels_last", "--precision", "bf16"], standalone_mode=False)
    (evaluation,) = given
    assert evaluation.deployment is not None and evaluation.deployment.runner.precision == "bf16"
    assert "_pytorch_channels_last_bf16_64x96_" in evaluation.condition
    for options, message in (
        (["--precision", "bf16"], "--precision is a runner's; name that with --runner"),
        (["--runner", "onnxruntime", "--precision", "bf16"], "--runner onnxruntime: .* has no precision bf16 on cpu"),
        (["--runner", "openvino", "--device", "cuda"], "with --runner, set target.device instead"),
        (["--runner", "openvino", "--follow", "runs"], "leave MODEL and --runner out"),
    ):
        with pytest.raises(ValueError, match=message):
            app([*command, *options], standalone_mode=False)


def test_every_mode_runs_on_a_checkpoint(experiment: Experiment, checkpoint: Path, tmp_path: Path) -> None:
    modes = (InferenceMode(window_size_px=(32, 64)), InferenceMode(scales=(0.75, 1.0), flip=True))
    for number, mode in enumerate(modes):
        scores = run_evaluate(experiment, Evaluation(checkpoint, "val", mode=mode), out=tmp_path / str(number))
        assert scores.confusion.sum() == 2 * 62 * 96


def test_what_does_not_fit_is_refused(
    experiment: Experiment, checkpoint: Path, tmp_path: Path, write_dataset: Callable[..., Path]
) -> None:
    other = write_dataset("other", classes=("ground", "block", "sea"))
    renamed = load_experiment(experiment.source, [f"dataset.root={other}"], evaluate.SECTIONS)
    with pytest.raises(ValueError, match=r"trained for 3 classes \(ground, block, sky\), the dataset .* has 3"):
        run_evaluate(renamed, Evaluation(checkpoint, "val"), out=tmp_path / "out")
    with pytest.raises(ValueError, match="no pixel of the evaluated images is labelled"):
        run_evaluate(experiment, Evaluation(checkpoint, "test"), out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no model at .*nowhere.pt"):
        Evaluation(tmp_path / "nowhere.pt", "val")


def test_conditions_name_folders_apart(checkpoint: Path, tmp_path: Path) -> None:
    exported = tmp_path / "student.onnx"
    exported.write_bytes(b"1")
    windows = InferenceMode(window_size_px=(32, 64), flip=True, scales=(0.5, 1.0))
    names = [
        Evaluation(checkpoint, "val").condition,
        Evaluation(checkpoint, "val", mode=windows).condition,
        Evaluation(exported, "val").condition,
    ]
    assert names[0].startswith("teacher_val_whole_")
    assert names[1].startswith("teacher_val_window32x64overlap0.33_flip_scales0.5-1_")
    assert names[2].startswith("student_onnx_val_whole_")
    exported.write_bytes(b"2")
    assert Evaluation(exported, "val").condition != names[2]
