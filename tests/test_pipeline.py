"""The whole road on a tiny set: every stage, then a second run that finds everything done."""

import json
import shutil
from pathlib import Path

import pytest

import pipeline
from fasterseg.base.experiment import load_experiment
from fasterseg.networks import Architecture
from fasterseg.runtime.load import load_card

EXPERIMENT = """
name: tiny
seed: 3
dataset:
  root: data/tiny
  num_workers: 0
  synthesize: {image_size: [64, 128], train_images: 12, val_images: 4, test_images: 2, cities: [northport]}
target: {runner: onnxruntime, threads: 1, input_size: [64, 128], budget_share: 0.5}
space: {layers: 8, base_channels: 2, widths: [0.5, 1.0], student_width: 0.5, operators: [skip, conv, conv_downup]}
latency: {rounds: 3, round_ms: 1, warmup_ms: 1, repeats: 0, correction_networks: 6}
pretrain: &supernet
  {epochs: 1, iterations_per_epoch: 2, batch_size: 2, crop_size_px: [64, 96], image_scale: 1.0, device: {threads: 1}}
search: {<<: *supernet, architecture: {lr: 0.03}}
teacher: &training
  epochs: 2
  iterations_per_epoch: 3
  batch_size: 2
  crop_size_px: [64, 96]
  optimizer: adamw
  lr: 0.004
  predict_test_every: 2
  device: {threads: 1}
student: *training
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "tiny.yaml").write_text(EXPERIMENT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pipeline.Pipeline(load_experiment(Path("tiny.yaml"), [], pipeline.SECTIONS)).run()
    return folder


def read_report(folder: Path) -> dict[str, dict[str, object]]:
    report = json.loads((folder / "runs/tiny/report/report.json").read_text())
    return {row["role"]: row for row in report["networks"]}


@pytest.mark.xdist_group("pipeline")
def test_every_stage_leaves_its_product(finished: Path) -> None:
    runs = finished / "runs/tiny"
    products = [
        "latency/latency_table.json",
        "pretrain/best.pt",
        "search/architecture_teacher.json",
        "search/architecture_student.json",
        "search/plots/student_paths.png",
        "teacher/best.pt",
        "student/best.pt",
        "student/metrics.jsonl",
        "student/test_predictions/epoch_0002",
        "export/student.onnx",
        "report/report.md",
        "report/predictions.png",
    ]
    assert [product for product in products if not (runs / product).exists()] == []
    assert list((runs / "student/tensorboard").glob("events*"))


@pytest.mark.xdist_group("pipeline")
def test_the_report_holds_its_promises(finished: Path) -> None:
    rows = read_report(finished)
    student = rows["student"]
    assert student["predicted_ms"] <= student["budget_ms"]
    assert student["measured_ms"] > 0 and student["table_sum_ms"] > 0
    for row in rows.values():
        assert abs(row["miou"] - row["exported_miou"]) <= 0.002


@pytest.mark.xdist_group("pipeline")
def test_the_exported_network_is_the_searched_one(finished: Path) -> None:
    runs = finished / "runs/tiny"
    searched = Architecture.load(runs / "search/architecture_student.json")
    assert load_card(runs / "export/student.onnx").architecture == searched
    assert load_card(runs / "student/best.pt").architecture == searched


@pytest.mark.xdist_group("pipeline")
def test_a_second_run_skips_what_is_done(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    kept = ["latency/latency_table.json", "pretrain/best.pt", "search/architecture_student.json", "student/best.pt"]
    before = {name: (finished / "runs/tiny" / name).stat().st_mtime_ns for name in kept}
    before_image = next((finished / "data/tiny").rglob("*_leftImg8bit.png")).stat().st_mtime_ns
    pipeline.Pipeline(load_experiment(Path("tiny.yaml"), [], pipeline.SECTIONS)).run()
    assert {name: (finished / "runs/tiny" / name).stat().st_mtime_ns for name in kept} == before
    assert next((finished / "data/tiny").rglob("*_leftImg8bit.png")).stat().st_mtime_ns == before_image


@pytest.mark.xdist_group("pipeline")
def test_changed_settings_do_not_overwrite_a_run(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished)
    changed = load_experiment(Path("tiny.yaml"), ["student.lr=0.001"], pipeline.SECTIONS)
    with pytest.raises(ValueError, match=r"in use by another experiment: student\.lr is 0\.004 there, 0\.001 here"):
        pipeline.Pipeline(changed).run()


def test_a_mistake_in_a_late_section_is_found_before_anything_starts(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(EXPERIMENT.replace("student: *training", "student: {epoch: 3}"))
    with pytest.raises(ValueError, match=r"student\.epoch: unknown key; did you mean 'epochs'"):
        load_experiment(file, [], pipeline.SECTIONS)


@pytest.mark.xdist_group("pipeline")
def test_two_runs_with_one_seed_are_the_same(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Same table, same seed: same architectures and losses. The table itself is measured, so it is copied."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(finished / "tiny.yaml", tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "runs/tiny/latency", tmp_path / "runs/tiny/latency")
    pipeline.Pipeline(load_experiment(Path("tiny.yaml"), [], pipeline.SECTIONS)).run(pipeline.StageName.STUDENT)
    for name in (
        "search/architecture_teacher.json",
        "search/architecture_student.json",
        "pretrain/metrics.jsonl",
        "search/metrics.jsonl",
        "student/metrics.jsonl",
    ):
        assert (tmp_path / "runs/tiny" / name).read_text() == (finished / "runs/tiny" / name).read_text(), name


@pytest.mark.xdist_group("pipeline")
def test_a_finished_stage_without_its_product_is_an_error(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "runs", tmp_path / "runs")
    (tmp_path / "runs/tiny/pretrain/best.pt").unlink()
    experiment = load_experiment(finished / "tiny.yaml", [], pipeline.SECTIONS)
    with pytest.raises(ValueError, match=r"pretrain/best\.pt is gone, although .* delete the folder to run the stage"):
        pipeline.Pipeline(experiment).run()


@pytest.mark.xdist_group("pipeline")
def test_changed_lists_are_noticed(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "runs", tmp_path / "runs")
    lines = (tmp_path / "data/tiny/train.txt").read_text().splitlines()
    (tmp_path / "data/tiny/train.txt").write_text("\n".join(lines[:-1]) + "\n")
    own = load_experiment(finished / "tiny.yaml", ["dataset.synthesize=null"], pipeline.SECTIONS)
    with pytest.raises(ValueError, match=r"in use by another experiment: origins\.dataset"):
        pipeline.Pipeline(own).run()


@pytest.mark.xdist_group("pipeline")
def test_the_pytorch_runner_goes_the_whole_road(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    settings = ["target.runner=pytorch", "target.device=cpu", "teacher.epochs=1", "student.epochs=1"]
    pipeline.Pipeline(load_experiment(finished / "tiny.yaml", settings, pipeline.SECTIONS)).run()
    assert read_report(tmp_path)["student"]["measured_ms"] > 0


@pytest.mark.xdist_group("pipeline")
def test_an_impossible_budget_is_found_before_any_training(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished / "data", tmp_path / "data")
    shutil.copytree(finished / "runs/tiny/latency", tmp_path / "runs/tiny/latency")
    settings = ["target.budget_share=null", "target.budget_ms=0.000001"]
    with pytest.raises(ValueError, match=r"budget_ms 1e-06 cannot be reached: the fastest network of this space takes"):
        pipeline.Pipeline(load_experiment(finished / "tiny.yaml", settings, pipeline.SECTIONS)).run()
    assert not (tmp_path / "runs/tiny/pretrain").exists()


def test_several_processes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(EXPERIMENT)
    settings = ["student.device={devices: 2}"]
    with pytest.raises(ValueError, match=r"one process, but student\.device\.devices is 2; train that stage by itself"):
        pipeline.refuse_processes(load_experiment(tmp_path / "tiny.yaml", settings, pipeline.SECTIONS))
    pipeline.refuse_processes(load_experiment(tmp_path / "tiny.yaml", [], pipeline.SECTIONS))
