"""A published file goes through import, evaluation and latency measurement like a network of ours."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

from fasterseg.runtime.cli import app as fasterseg_app
from fasterseg.runtime.importers.facts import imported_facts
from latency.__main__ import app as latency_app
from tests.golden_fill import fill
from train.__main__ import app as train_app

GOLDEN = Path(__file__).resolve().parent / "golden"
CASES = {"fasterseg_student": ["--architecture", "fasterseg-student"], "icnet_resnet50_v1s": []}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Two street-sized scraps with the 19 classes, and an experiment on them."""
    root, random = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    for index in range(2):
        Image.fromarray(random.integers(0, 256, (64, 128, 3), dtype=np.uint8)).save(root / f"{index}.png")
        Image.fromarray(random.integers(0, 19, (64, 128), dtype=np.uint8)).save(root / f"{index}_mask.png")
    facts = imported_facts(19)
    classes = [
        {"name": name, "color": list(color)} for name, color in zip(facts.class_names, facts.colors, strict=True)
    ]
    (root / "val.txt").write_text("0.png 0_mask.png\n1.png 1_mask.png\n")
    (root / "dataset.yaml").write_text(
        yaml.safe_dump({"name": "scraps", "classes": classes, "splits": {"train": "val.txt", "val": "val.txt"}})
    )
    settings = {
        "dataset": {"root": str(root), "num_workers": 0},
        "target": {"runner": "onnxruntime", "device": "cpu", "input_size": [64, 128]},
        "latency": {"rounds": 3, "round_ms": 0.2, "warmup_ms": 0.1, "repeats": 0, "correction_networks": 0},
    }
    path = tmp_path / "imported.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.mark.parametrize("case", CASES)
def test_an_imported_network_is_evaluated_and_measured(
    case: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = json.loads((GOLDEN / f"{case}.json").read_text())["state"]
    torch.save({name: fill(name, shape) for name, shape in reference}, "weights.pt")
    for app, command in (
        (fasterseg_app, ["import", "weights.pt", *CASES[case], "--out", "imported", "--input-size", "64x128"]),
        (train_app, ["evaluate", "imported/best.pt", "--config", str(config), "--out", "evaluated"]),
        (latency_app, ["measure", "imported/best.pt", "--config", str(config), "--out", "measured"]),
    ):
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    scores = json.loads(Path("evaluated/summary.json").read_text())
    assert 0 <= scores["miou"] < 0.2  # these weights are no training's
    measured = "".join(path.read_text() for path in Path("measured").iterdir() if path.suffix in (".csv", ".json"))
    assert "imported" in measured
