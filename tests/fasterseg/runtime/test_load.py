import pickle
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from fasterseg.engine.checkpoint import NetworkCheckpoint, save_network, save_state
from fasterseg.runtime.card import METADATA_KEY, checkpoint_card
from fasterseg.runtime.load import load_card, load_predictor


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_malicious_checkpoint_is_refused_and_does_nothing(tmp_path: Path) -> None:
    target, proof = tmp_path / "best.pt", tmp_path / "executed"
    torch.save({"format": "fasterseg-checkpoint", "weights": Malicious(proof)}, target)
    with pytest.raises(ValueError, match=r"best\.pt cannot be read as a checkpoint"):
        load_predictor(target)
    target.write_bytes(pickle.dumps(Malicious(proof), protocol=2))
    with pytest.raises(ValueError, match=r"best\.pt cannot be read as a checkpoint"):
        load_predictor(target)
    assert not proof.exists()


def test_a_cut_checkpoint_is_refused(checkpoint_file: Path, tmp_path: Path) -> None:
    data = checkpoint_file.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 10):
        (tmp_path / "cut.pt").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"cut\.pt cannot be read as a checkpoint"):
            load_predictor(tmp_path / "cut.pt")


def test_weights_of_another_network_are_refused(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    weights = dict(checkpoint.weights)
    del weights["ffm.conv.weight"]
    save_network(tmp_path / "best.pt", replace(checkpoint, weights=weights))
    with pytest.raises(ValueError, match=r"best\.pt: the weights do not fit the architecture.*"):
        load_predictor(tmp_path / "best.pt")


def test_training_states_and_folders_are_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "last.pt", {"kind": "training", "epoch": 3})
    with pytest.raises(ValueError, match=r"last\.pt is a training state, not a network; expected the best\.pt"):
        load_predictor(tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"is a folder; name the model file in it, such as .*best\.pt"):
        load_predictor(tmp_path)


@pytest.mark.parametrize("name", ["a.pt", "a.onnx"])
def test_absent_files_are_named(tmp_path: Path, name: str) -> None:
    for load in (load_predictor, load_card):
        with pytest.raises(FileNotFoundError, match=f"at .*{name}"):
            load(tmp_path / name)


def foreign_model(metadata: str | None, *, shape: tuple[int | str, ...] = (1, 3, 8, 8)) -> bytes:
    """An identity in ONNX."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "graph", values[:1], values[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    if metadata is not None:
        model.metadata_props.add(key=METADATA_KEY, value=metadata)
    data: bytes = model.SerializeToString()
    return data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be loaded as an ONNX model"),
        (b"not onnx at all", "cannot be loaded as an ONNX model"),
        (foreign_model(None), "carries no 'fasterseg' metadata"),
        (foreign_model("{"), "metadata is not valid JSON"),
        (foreign_model("{}"), "not of format 'fasterseg-export'"),
        (foreign_model(None, shape=("N", 3, 8, 8)), "input 'x' has shape .*expected four fixed sizes"),
    ],
)
def test_damaged_and_foreign_onnx_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(data)
    for load in (load_predictor, load_card):
        with pytest.raises(ValueError, match=rf"foreign\.onnx.*{message}"):
            load(path)


def test_an_onnx_file_cut_in_the_middle_is_refused(onnx_file: Path, tmp_path: Path) -> None:
    (tmp_path / "cut.onnx").write_bytes(onnx_file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"cut\.onnx cannot be loaded"):
        load_predictor(tmp_path / "cut.onnx")


def test_metadata_of_another_graph_are_refused(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(foreign_model(checkpoint_card(checkpoint).to_json()))
    with pytest.raises(ValueError, match=r"other\.onnx maps \(1, 3, 8, 8\) .* metadata say \(1, 3, 64, 96\)"):
        load_predictor(path)


def test_two_inputs_are_refused(onnx_file: Path, tmp_path: Path) -> None:
    model = onnx.load(onnx_file)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, (1,)))
    (tmp_path / "two.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match=r"two\.onnx has inputs .*more.*expected one float32 image"):
        load_predictor(tmp_path / "two.onnx")


def test_a_checkpoint_and_its_export_say_the_same(checkpoint_file: Path, onnx_file: Path) -> None:
    ours, exported = load_card(checkpoint_file), load_card(onnx_file)
    assert (ours.dataset, ours.architecture) == (exported.dataset, exported.architecture)
    assert (ours.parameters, ours.macs, ours.input_size) == (exported.parameters, exported.macs, exported.input_size)


def test_settings_that_a_file_cannot_follow(checkpoint_file: Path, onnx_file: Path) -> None:
    with pytest.raises(ValueError, match="fixed to input size 64x96"):
        load_predictor(onnx_file, input_size=(32, 32))
    with pytest.raises(ValueError, match="is fixed to input size 64x96"):
        load_card(onnx_file, input_size=(32, 32))
    with pytest.raises(ValueError, match="ONNX Runtime on the CPU, but device cuda"):
        load_predictor(onnx_file, device="cuda")
    with pytest.raises(ValueError, match="threads is 0, expected at least 1"):
        load_predictor(checkpoint_file, threads=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_an_absent_device_is_an_error(checkpoint_file: Path) -> None:
    with pytest.raises(ValueError, match="PyTorch finds no CUDA device"):
        load_predictor(checkpoint_file, device="cuda")
