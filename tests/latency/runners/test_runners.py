import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.networks.specs import CellSpec, random_input
from fasterseg.runtime.export import onnx_bytes
from latency.config import TargetConfig
from latency.runners import RUNNERS, build_runner
from latency.runners.pytorch import PyTorchRunner

SPEC = CellSpec(operator="conv_2x_downup", in_channels=8, out_channels=16, stride=1, height=9, width=14)
ONNX_RUNNERS = ["onnxruntime", "openvino"]


@pytest.fixture(params=sorted(RUNNERS))
def runner_name(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    pytest.importorskip(RUNNERS[name].package, reason=f"{name} is not installed")
    return name


def test_outputs_equal_pytorch(runner_name: str) -> None:
    torch.manual_seed(0)
    module = SPEC.build().eval()
    image = random_input(SPEC)
    with torch.inference_mode():
        expected = module(image).numpy()
    session = RUNNERS[runner_name](threads=1).prepare(module, SPEC.input_shape())
    np.testing.assert_allclose(session.run(image.numpy()), expected, atol=1e-4)
    session.time_calls(2)
    # timing must leave no trace in what the session computes
    np.testing.assert_allclose(session.run(image.numpy()), expected, atol=1e-4)


def test_times_are_positive_and_as_many_as_asked_for(runner_name: str) -> None:
    session = RUNNERS[runner_name](threads=1).prepare(SPEC.build(), SPEC.input_shape())
    calls = session.time_calls(4)
    assert len(calls) == 4 and all(call.duration_ms > 0 for call in calls)


def test_an_input_of_another_shape_is_refused(runner_name: str) -> None:
    session = RUNNERS[runner_name](threads=1).prepare(SPEC.build(), SPEC.input_shape())
    with pytest.raises(ValueError, match=r"input has shape \(1, 8, 9, 15\), this session was prepared for"):
        session.run(np.zeros((1, 8, 9, 15), dtype=np.float32))


def test_conditions_name_versions_and_machine(runner_name: str) -> None:
    conditions = RUNNERS[runner_name](threads=2).conditions()
    assert (conditions.runner, conditions.device, conditions.threads) == (runner_name, "cpu", 2)
    assert conditions.device_name and conditions.versions["torch"] == str(torch.__version__)
    assert RUNNERS[runner_name].package in conditions.versions


@pytest.mark.parametrize("name", ONNX_RUNNERS)
def test_an_exported_file_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    module = nn.Conv2d(3, 4, 3).eval()
    path = tmp_path / "with space.onnx"
    path.write_bytes(onnx_bytes(module, (1, 3, 10, 11)))
    session = RUNNERS[name](threads=1).from_onnx_path(path)
    assert session.input_shape == (1, 3, 10, 11)
    image = torch.randn(1, 3, 10, 11)
    np.testing.assert_allclose(session.run(image.numpy()), module(image).detach().numpy(), atol=1e-4)


@pytest.mark.parametrize("name", ONNX_RUNNERS)
def test_bad_files_are_named(name: str, tmp_path: Path) -> None:
    pytest.importorskip(name, reason=f"{name} is not installed")
    runner = RUNNERS[name](threads=1)
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        runner.from_onnx_path(tmp_path / "absent.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not an ONNX file")
    with pytest.raises(ValueError, match=r"cannot load .*broken\.onnx"):
        runner.from_onnx_path(broken)


def test_pytorch_cannot_run_onnx(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot run the ONNX file .*network\.onnx; set target.runner to onnxruntime"):
        PyTorchRunner().from_onnx_path(tmp_path / "network.onnx")


def test_pytorch_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    PyTorchRunner(threads=before + 1).prepare(SPEC.build(), SPEC.input_shape()).time_calls(1)
    assert torch.get_num_threads() == before


def test_an_absent_runtime_is_an_error_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec

    def without_openvino(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "openvino" else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without_openvino)
    with pytest.raises(ValueError, match="`pip install openvino`, or set target.runner to one of .*pytorch"):
        build_runner(TargetConfig(runner="openvino"))


def test_auto_says_what_it_takes_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    selection = build_runner(TargetConfig(runner="auto", threads=2))
    assert (selection.runner.name, selection.runner.device, selection.runner.threads) == ("onnxruntime", "cpu", 2)
    assert selection.reason == "onnxruntime on cpu (target.runner is auto and PyTorch finds no GPU)"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    selection = build_runner(TargetConfig(runner="auto"))
    assert (selection.runner.name, selection.runner.device) == ("pytorch", "cuda")
    assert build_runner(TargetConfig(runner="auto", device="cpu")).runner.name == "onnxruntime"


def test_cuda_without_a_gpu_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="target.device is cuda, but PyTorch finds no GPU"):
        build_runner(TargetConfig(runner="pytorch", device="cuda"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_time_is_the_time_of_the_work() -> None:
    """A queue of long kernels takes long: events that did not bracket the work would report microseconds."""
    session = PyTorchRunner(device="cuda").prepare(nn.Conv2d(256, 256, 3, padding=1), (1, 256, 512, 512))
    session.time_calls(3)
    assert min(call.duration_ms for call in session.time_calls(5)) > 0.2
