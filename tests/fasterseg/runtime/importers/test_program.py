"""`fasterseg import`, from files of each published program to networks that predict, export and say what they are."""

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fasterseg.engine.checkpoint import load_network
from fasterseg.networks import Architecture, load_architecture
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.cli import app
from fasterseg.runtime.importers.program import ImportRequest, import_files
from tests.fasterseg.runtime.importers.test_published import CASES, drawn_parameters
from tests.golden_fill import fill
from tests.released_student import released_student

GOLDEN = Path(__file__).resolve().parents[3] / "golden"
RUNNER = CliRunner()


def golden_state(case: str) -> dict[str, torch.Tensor]:
    data = json.loads((GOLDEN / f"{case}.json").read_text())
    return {name: fill(name, shape) for name, shape in data["state"]}


@pytest.fixture(scope="module")
def student_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("released") / "weights1.pt"
    torch.save(golden_state("fasterseg_student"), path)
    return path


def test_an_architecture_alone(tmp_path: Path) -> None:
    torch.save(drawn_parameters(CASES[-1]), tmp_path / "arch_1.pt")
    result = RUNNER.invoke(app, ["import", str(tmp_path / "arch_1.pt"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "next: python -m train" in result.output
    assert isinstance(load_architecture(tmp_path / "out/architecture.json"), Architecture)
    assert not (tmp_path / "out/best.pt").exists()


def test_released_weights_become_a_network_like_one_of_ours(student_weights: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "student", tmp_path / "street.png"
    arguments = ["import", str(student_weights), "--architecture", "fasterseg-student", "--out", str(out)]
    result = RUNNER.invoke(app, [*arguments, "--input-size", "64x128"])
    assert result.exit_code == 0, result.output
    assert "channel_attention" in result.output and "left with fresh values: 0 tensors" in result.output
    checkpoint = load_network(out / "best.pt", num_classes=19)
    assert checkpoint.architecture == released_student()
    assert checkpoint.dataset.class_names[0] == "road"
    assert set(json.loads((out / "import.json").read_text())["origins"]) == {"weights"}
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 256, (64, 128, 3), dtype=np.uint8))
    for command in (
        ["info", str(out / "best.pt")],
        ["predict", str(out / "best.pt"), str(picture), "--out", str(tmp_path / "predicted")],
        ["export", str(out / "best.pt"), "--out", str(tmp_path / "student.onnx")],
        ["predict", str(tmp_path / "student.onnx"), str(picture), "--out", str(tmp_path / "by_onnx")],
    ):
        result = RUNNER.invoke(app, command)
        assert result.exit_code == 0, result.output
    assert RUNNER.invoke(app, arguments).exit_code == 1  # what exists is kept


@pytest.mark.parametrize(
    ("case", "kind"), [("icnet_resnet50_v1s", ICNetArchitecture), ("pspnet50", PSPNetArchitecture)]
)
def test_baselines_are_told_by_their_names(case: str, kind: type, tmp_path: Path) -> None:
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in golden_state(case).items()}}, tmp_path / "w.pth"
    )
    result = import_files(ImportRequest(tmp_path / "w.pth", tmp_path / "out", input_size=(64, 128)))
    assert result.checkpoint is not None
    checkpoint = load_network(result.checkpoint)
    assert isinstance(checkpoint.architecture, kind)
    exported = RUNNER.invoke(app, ["export", str(result.checkpoint), "--out", str(tmp_path / "net.onnx")])
    assert exported.exit_code == 0, exported.output
    assert kind.FORMAT in RUNNER.invoke(app, ["info", str(tmp_path / "net.onnx")]).output  # type: ignore[attr-defined]


def imagenet_state() -> Mapping[str, torch.Tensor]:
    """A plain ResNet50's state dict, by way of the baseline's own backbone."""
    state = golden_state("icnet_resnet50_v1s")
    return {name.removeprefix("pretrained."): value for name, value in state.items() if name.startswith("pretrained.")}


def test_imagenet_weights_start_a_baseline(tmp_path: Path) -> None:
    torch.save(imagenet_state(), tmp_path / "resnet50.pth")
    request = ImportRequest(tmp_path / "resnet50.pth", tmp_path / "out")
    with pytest.raises(ValueError, match="holds weights of resnet50; name their architecture: --architecture icnet"):
        import_files(request)
    request = ImportRequest(request.source, request.out, architecture="icnet")
    with pytest.raises(ValueError, match="say for how many classes, by --num-classes or --dataset"):
        import_files(request)
    request = ImportRequest(request.source, request.out, architecture="icnet", num_classes=5)
    result = import_files(request)
    assert "classifier.weight" in result.uninitialised
    assert result.checkpoint is not None and load_network(result.checkpoint).dataset.num_classes == 5


def test_what_does_not_fit_is_refused(student_weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="holds no architecture parameters, but --weights is given"):
        import_files(ImportRequest(student_weights, out, weights=student_weights))
    with pytest.raises(ValueError, match="--architecture names PSPNetArchitecture"):
        import_files(ImportRequest(student_weights, out, architecture="pspnet50"))
    with pytest.raises(ValueError, match="tensor .* has shape|does not have"):
        import_files(ImportRequest(student_weights, out, architecture="fasterseg-teacher"))
    with pytest.raises(FileNotFoundError, match="or one of the presets fasterseg-student"):
        import_files(ImportRequest(student_weights, out, architecture="fasterseg"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="is of no program that can be imported"):
        import_files(ImportRequest(tmp_path / "a.pt", out))
    assert not out.exists()
