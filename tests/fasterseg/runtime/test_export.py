from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import DeployedNetwork, DerivedNetwork
from fasterseg.networks.operators import operator_class
from fasterseg.runtime import export
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.export import export_checkpoint, export_onnx, onnx_bytes
from fasterseg.runtime.onnx_session import OnnxSession
from fasterseg.runtime.predictor import OnnxBackend
from tests.released_student import NUM_CLASSES, released_student


def test_one_file_with_its_card(checkpoint_file: Path, checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "new" / "network.onnx"
    report = export_checkpoint(checkpoint_file, path)
    assert list(path.parent.iterdir()) == [path]
    assert report.relative_difference < 1e-5
    assert (report.path, report.input_size, report.size_bytes) == (path, (64, 96), path.stat().st_size)
    card = OnnxBackend(path).card
    assert card.dataset == checkpoint.dataset
    assert card.architecture == checkpoint.architecture
    assert card.origins == {"architecture": "0123456789abcdef", "checkpoint": file_digest(checkpoint_file)}
    assert card.scores == {"miou": 0.5}


@pytest.mark.parametrize("size", [(67, 101), (33, 32)])
def test_odd_sizes_agree_with_pytorch(checkpoint: NetworkCheckpoint, tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "network.onnx"
    export_onnx(checkpoint, path, input_size=size)
    image = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        expected = DeployedNetwork(checkpoint.build()).eval()(image).numpy()
    found = OnnxSession(path).run(image.numpy())
    assert found.shape == (1, 4, *size)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [export.OPSETS.start, export.OPSETS.stop - 1])
def test_every_opset_at_the_ends_of_the_range(tiny_checkpoint: NetworkCheckpoint, tmp_path: Path, opset: int) -> None:
    path = tmp_path / "network.onnx"
    assert export_onnx(tiny_checkpoint, path, opset=opset).opset == opset
    assert [entry.version for entry in onnx.load(path).opset_import if not entry.domain] == [opset]


def test_the_graph_is_lean_and_tells_nothing_of_this_machine(onnx_file: Path) -> None:
    model = onnx.load(onnx_file)
    operators = [node.op_type for node in model.graph.node]
    # only the strided skip joins two convolutions before its batch norm, where nothing can be folded
    assert operators.count("BatchNormalization") == 1
    products = {"Gather", "MatMul", "Reshape", "Transpose"}
    assert set(operators) <= {"Conv", "Relu", "Resize", "Concat", "Slice", "Pad", "BatchNormalization", *products}
    assert operators.count("MatMul") == 2
    assert [entry.key for entry in model.metadata_props] == [METADATA_KEY]
    assert str(Path(__file__).parents[3]).encode() not in onnx_file.read_bytes()
    assert ".py" not in str(model.graph.node)


def test_nothing_is_left_when_the_logits_differ(
    tiny_checkpoint: NetworkCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that gets a weight wrong is caught."""

    def broken(module: torch.nn.Module, *arguments: object, **settings: object) -> bytes:
        with torch.no_grad():
            bias = module.get_parameter("network.head.classifier.bias")
            kept = bias.clone()
            bias.mul_(1.01)
            data = onnx_bytes(module, *arguments, **settings)  # type: ignore[arg-type]
            bias.copy_(kept)
        return data

    monkeypatch.setattr(export, "onnx_bytes", broken)
    with pytest.raises(ValueError, match=r"logits differ from PyTorch's by .*network\.onnx was not written"):
        export_onnx(tiny_checkpoint, tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_non_finite_weights_are_refused(tiny_checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    weights = {name: value.clone() for name, value in tiny_checkpoint.weights.items()}
    weights["head.classifier.bias"][0] = float("nan")
    with pytest.raises(ValueError, match="was not written: check the weights for non-finite values"):
        export_onnx(replace(tiny_checkpoint, weights=weights), tmp_path / "network.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_unless_told_otherwise(tiny_checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    path.write_text("precious")
    with pytest.raises(ValueError, match=r"network\.onnx exists already.*--overwrite"):
        export_onnx(tiny_checkpoint, path)
    assert path.read_text() == "precious"
    export_onnx(tiny_checkpoint, path, overwrite=True)
    assert OnnxBackend(path).fixed_size == (64, 96)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"input_size": (0, 64)}, "input_size is 0x64"), ({"opset": 9}, "opset 9 is not supported; use 18 to")],
)
def test_impossible_settings_are_refused(
    tiny_checkpoint: NetworkCheckpoint, tmp_path: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        export_onnx(tiny_checkpoint, tmp_path / "network.onnx", **settings)  # type: ignore[arg-type]


def test_a_module_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="in training mode"):
        onnx_bytes(operator_class("conv")(8, 8), (1, 8, 4, 4))


def test_the_exporter_is_quiet_and_repeats_itself(capfd: pytest.CaptureFixture[str]) -> None:
    operator = operator_class("skip")(8, 8, stride=2).eval()
    first, second = (onnx_bytes(operator, (1, 8, 5, 4)) for _ in range(2))
    assert first == second
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_the_released_student_exports(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    torch.manual_seed(0)
    facts = replace(
        checkpoint.dataset,
        class_names=tuple(f"class {index}" for index in range(NUM_CLASSES)),
        colors=((0, 0, 0),) * NUM_CLASSES,
        label_ids=None,
    )
    network = DerivedNetwork(released_student(), NUM_CLASSES)
    released = replace(checkpoint, architecture=released_student(), dataset=facts, weights=network.state_dict())
    report = export_onnx(released, tmp_path / "student.onnx", input_size=(128, 256))
    assert report.relative_difference < 1e-5
    card = ModelCard.from_json(OnnxSession(report.path).metadata[METADATA_KEY], "student.onnx")
    assert (card.parameters, card.dataset.label_ids) == (4_352_921, None)
