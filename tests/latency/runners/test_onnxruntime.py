from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.networks.operator_specs import CellSpec, random_input
from fasterseg.runtime.onnx_session import LOAD_FAILURES
from latency.runners.onnxruntime import OnnxRuntimeRunner

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
SPEC = CellSpec(operator="conv_2x", in_channels=8, out_channels=16, stride=1, height=17, width=14)
HAS_CUDA = torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime has the CUDA provider"
)
@pytest.mark.parametrize("mode", ["cuda", "tensorrt"])
def test_an_absent_provider_is_an_error_with_the_install_command(mode: str) -> None:
    runner = OnnxRuntimeRunner(device="cuda", mode=mode)
    with pytest.raises(ValueError, match=r"has no provider .*ExecutionProvider \(it has .*pip install onnxruntime-gpu"):
        runner.prepare(SPEC.build(), SPEC.input_shape())


@pytest.mark.parametrize("failure", LOAD_FAILURES)
def test_whatever_keeps_a_file_from_loading_is_told_of_the_file(
    failure: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure("it says why")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fail)
    (tmp_path / "network.onnx").write_bytes(b"whatever")
    with pytest.raises(ValueError, match=r"ONNX Runtime cannot load .*network\.onnx: it says why"):
        OnnxRuntimeRunner().from_onnx_path(tmp_path / "network.onnx")


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_CUDA, reason="needs onnxruntime-gpu and a CUDA device")
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_gpu_outputs_equal_pytorch(precision: str, tolerance: float) -> None:
    module, image = SPEC.build().eval(), random_input(SPEC)
    with torch.inference_mode():
        expected = module(image).numpy()
    session = OnnxRuntimeRunner(device="cuda", precision=precision).prepare(module, SPEC.input_shape())
    np.testing.assert_allclose(session.run(image.numpy()), expected, atol=tolerance)
    assert all(call.duration_ms > 0 for call in session.time_calls(3))
    with pytest.raises(ValueError, match="does not time the kernels of a CUDA device"):
        session.layer_times()
