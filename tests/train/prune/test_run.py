"""`train prune` from a training checkpoint to a network that is trained again."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fasterseg.base.experiment import Experiment, load_experiment
from fasterseg.engine.checkpoint import load_network
from fasterseg.networks.pruned import PrunedArchitecture
from fasterseg.runtime.export import export_checkpoint
from latency.build import SECTIONS as LATENCY_SECTIONS
from latency.build import run_table
from train import stages
from train.__main__ import app
from train.prune.factor import Budget
from train.prune.run import SECTIONS, PruneRequest, run_prune
from train.stages import run_baseline
from train.start import start_fresh, start_from_checkpoint
from train.trainer import NetworkStage

WriteExperiment = Callable[..., Path]


@pytest.fixture
def file(write_experiment: WriteExperiment) -> Path:
    return write_experiment(epochs=1, iterations_per_epoch=2)


@pytest.fixture
def checkpoint(file: Path, tmp_path: Path) -> Path:
    return run_baseline(load_experiment(file, [], stages.BASELINE_SECTIONS), "icnet", out=tmp_path / "icnet")


@pytest.fixture
def experiment(file: Path) -> Experiment:
    return load_experiment(file, ["target.runner=pytorch"], SECTIONS)


def test_a_pruned_network_is_measured_exported_and_trained_again(
    checkpoint: Path, experiment: Experiment, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    report = run_prune(PruneRequest(checkpoint), out=out, experiment=experiment)
    before, after = report.rows
    assert after.parameters < 0.4 * before.parameters and after.gmacs < 0.4 * before.gmacs
    assert before.miou is not None and after.miou is not None and before.median_ms and after.median_ms
    assert json.loads((out / "report.json").read_text())["rows"][1]["parameters"] == after.parameters
    assert "| parameters |" in (out / "report.md").read_text()
    pruned = load_network(out / "best.pt")
    assert isinstance(pruned.architecture, PrunedArchitecture)
    kept = json.loads((out / "kept_filters.json").read_text())
    for name, indices in kept.items():
        assert pruned.weights[f"{name}.weight"].shape[0] == len(indices)
    assert np.asarray(Image.open(out / "filter_norms.png")).std() > 10
    # a second call finds it done; other settings do not mix with it
    assert run_prune(PruneRequest(checkpoint), out=out, experiment=experiment) == report
    with pytest.raises(ValueError, match=r"in use by another experiment: factor is 0\.5 there, 0\.75 here"):
        run_prune(PruneRequest(checkpoint, factor=0.75), out=out, experiment=experiment)
    assert export_checkpoint(out / "best.pt", tmp_path / "pruned.onnx").relative_difference < 1e-3
    trained = load_experiment(experiment.source, [], stages.BASELINE_SECTIONS)
    again = run_baseline(trained, "icnet", out=tmp_path / "again", start_from=out / "best.pt")
    assert load_network(again).architecture == pruned.architecture


def test_a_factor_of_one_keeps_every_bit_and_soft_keeps_the_architecture(checkpoint: Path, tmp_path: Path) -> None:
    original = load_network(checkpoint)
    run_prune(PruneRequest(checkpoint, factor=1.0), out=tmp_path / "same")
    same = load_network(tmp_path / "same/best.pt")
    assert same.architecture == PrunedArchitecture(original.architecture)  # type: ignore[arg-type]
    assert all(torch.equal(value, original.weights[name]) for name, value in same.weights.items())
    run_prune(PruneRequest(checkpoint, soft=True), out=tmp_path / "soft")
    soft = load_network(tmp_path / "soft/best.pt")
    assert soft.architecture == original.architecture
    assert (soft.weights["detail.0.conv.weight"].flatten(1).abs().sum(dim=1) == 0).sum() == 4


def test_a_searched_network_is_pruned_and_trained_by_its_own_stage(
    file: Path, experiment: Experiment, architecture_path: Path, tmp_path: Path
) -> None:
    trained = load_experiment(file, [], stages.TEACHER_SECTIONS)
    best = stages.run_teacher(trained, out=tmp_path / "teacher", start=start_fresh(architecture_path))
    run_prune(PruneRequest(best, ranking="global"), out=tmp_path / "out", experiment=experiment)
    again = load_experiment(file, ["student.distillation_weight=0"], stages.STUDENT_SECTIONS)
    start = start_from_checkpoint(tmp_path / "out/best.pt", num_classes=3)
    result = stages.run_student(again, out=tmp_path / "student", start=start, teacher_path=None)
    assert isinstance(load_network(result).architecture, PrunedArchitecture)


def test_progressive_pruning_trains_between_the_steps(
    checkpoint: Path, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PruneRequest(checkpoint, progressive=True)
    assert request.steps(0.5) == (0.75, 0.5)
    run_prune(request, out=tmp_path / "out", experiment=experiment)
    middle, last = load_network(tmp_path / "out/step_1/best.pt"), load_network(tmp_path / "out/best.pt")
    name = "backbone.layer4.0.spatial.conv.weight"
    sizes = [load_network(path).weights[name].shape[0] for path in (checkpoint, tmp_path / "out/step_1.pt")]
    assert (*sizes, middle.weights[name].shape[0], last.weights[name].shape[0]) == (64, 48, 48, 32)
    plots = [(tmp_path / "out" / name).read_bytes() for name in ("step_1_filter_norms.png", "filter_norms.png")]
    assert plots[0] != plots[1]
    # the kept filters are counted in the original network
    kept = json.loads((tmp_path / "out/kept_filters.json").read_text())[name.removesuffix(".weight")]
    assert len(kept) == 32 and max(kept) > 48 - 1 and kept == sorted(kept)
    # a call that was cut off after the training goes on without training again
    (tmp_path / "out/summary.json").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(NetworkStage, "step", lambda *_: pytest.fail("trained again"))
        run_prune(request, out=tmp_path / "out", experiment=experiment)
    again = load_network(tmp_path / "out/best.pt").weights
    assert all(torch.equal(value, again[name]) for name, value in last.weights.items())
    with pytest.raises(ValueError, match="soft and progressive exclude each other"):
        PruneRequest(checkpoint, progressive=True, soft=True)
    with pytest.raises(ValueError, match="need an experiment file"):
        run_prune(request, out=tmp_path / "none")


def test_a_budget_chooses_the_factor(checkpoint: Path, file: Path, experiment: Experiment, tmp_path: Path) -> None:
    small = [
        "space.layers=5",
        "space.base_channels=4",
        "space.widths=[1.0]",
        "space.student_width=1.0",
        "space.operators=[skip, conv]",
    ]
    measured = load_experiment(file, ["target.runner=pytorch", *small], LATENCY_SECTIONS)
    network = load_network(checkpoint).architecture
    table = run_table(measured, out=tmp_path / "latency", networks=[network])
    before = table.read_bytes()
    request = PruneRequest(checkpoint, factor=1.0, budget=Budget(1e3, table))
    assert run_prune(request, out=tmp_path / "easy", experiment=experiment).factor == 1.0
    hard = PruneRequest(checkpoint, factor=1.0, budget=Budget(1e-6, table))
    with pytest.raises(ValueError, match=r"budget_ms 1e-06 cannot be met by pruning: at a factor of 1/16"):
        run_prune(hard, out=tmp_path / "hard", experiment=experiment)
    # the operators of the tried factors went into a copy
    assert table.read_bytes() == before != (tmp_path / "hard/latency_table.json").read_bytes()
    with pytest.raises(FileNotFoundError, match="no latency table at"):
        Budget(1.0, tmp_path / "none.json")


def test_a_person_has_the_last_word(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers: Iterator[int] = iter([3, 0, 2, *[1] * 100])
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    arguments = ["prune", str(checkpoint), "--interactive", "--out", str(tmp_path / "out")]
    app(arguments, standalone_mode=False)
    output = " ".join(capsys.readouterr().out.split())
    assert "detail.0.conv: 8 filters" in output and "L1 norms" in output and "0 is not possible; from 1 to 8" in output
    kept = json.loads((tmp_path / "out/kept_filters.json").read_text())
    assert (len(kept["detail.0.conv"]), len(kept["detail.1.conv"]), len(kept["fusion8.low.conv"])) == (3, 2, 1)
    assert kept["fusion8.low.conv"] == kept["fusion8.high.conv"]
    with pytest.raises(ValueError, match="interactive is True there, False here"):
        run_prune(PruneRequest(checkpoint), out=tmp_path / "out")


def test_what_cannot_be_pruned_is_refused(checkpoint: Path, tmp_path: Path, file: Path) -> None:
    for factor in ("0", "1.5", "-1"):
        with pytest.raises(ValueError, match=r"expected the part of the filters to keep, in \(0, 1\]"):
            app(["prune", str(checkpoint), "--factor", factor, "--out", str(tmp_path / "out")], standalone_mode=False)
    with pytest.raises(ValueError, match="is a training state, not a network"):
        run_prune(PruneRequest(checkpoint.parent / "last.pt"), out=tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="nowhere.pt"):
        run_prune(PruneRequest(tmp_path / "nowhere.pt"), out=tmp_path / "out")
    with pytest.raises(ValueError, match="--budget-ms needs an experiment file"):
        app(["prune", str(checkpoint), "--budget-ms", "3"], standalone_mode=False)
