import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import latency
from fasterseg.networks.operator_specs import CellSpec, random_input
from latency.runners.pytorch import PyTorchRunner, keep_freed_memory, profile_layers

SPEC = CellSpec(operator="conv_2x_downup", in_channels=8, out_channels=16, stride=1, height=9, width=14)
on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def expected_output(module: nn.Module, image: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(module(image))


def test_it_cannot_run_onnx(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot run the ONNX file .*network\.onnx; set target.runner to onnxruntime"):
        PyTorchRunner().from_onnx_path(tmp_path / "network.onnx")


def test_settings_are_given_back() -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    PyTorchRunner(threads=before[0] + 1, tf32=not before[1]).prepare(SPEC.build(), SPEC.input_shape()).time_calls(1)
    assert (torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == before


def test_the_module_stays_as_it_was() -> None:
    module = SPEC.build().train()
    PyTorchRunner(precision="bf16", mode="channels_last").prepare(module, SPEC.input_shape())
    assert module.training
    assert all(p.dtype == torch.float32 and p.is_contiguous() for p in module.parameters())


def test_bfloat16_is_another_arithmetic_with_float32_around_it() -> None:
    torch.manual_seed(0)
    module, image = SPEC.build().eval(), random_input(SPEC)
    expected = expected_output(module, image)
    output = PyTorchRunner(precision="bf16").prepare(module, SPEC.input_shape()).run(image.numpy())
    assert output.dtype == np.float32
    assert 0 < np.abs(output - expected).max() < 0.05 * np.abs(expected).max()


def test_leaves_are_told_by_name_and_other_operations_by_number() -> None:
    class TwoSums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(8, 8, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return (image + self.convolution(image)) + image

    session = PyTorchRunner().prepare(TwoSums(), (1, 8, 9, 9))
    layers = [(layer.name, layer.kind) for layer in session.layer_times()]
    assert layers == [("convolution", "Conv2d"), ("add_1", "aten::add"), ("add_2", "aten::add")]
    module = nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    runs = profile_layers(module, torch.zeros(1, 8, 9, 9), 4)
    assert [[layer.name for layer in run] for run in runs] == [["0", "1"]] * 4


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_modules_of_one_class_all_run() -> None:
    """More modules of one class than PyTorch compiles of one piece of code (8) before it gives up."""
    image = torch.randn(1, 3, 12, 10)
    runner = PyTorchRunner(mode="compile")
    for channels in range(2, 12):
        module = nn.Sequential(nn.Conv2d(3, channels, 3), nn.ReLU()).eval()
        session = runner.prepare(module, (1, 3, 12, 10))
        np.testing.assert_allclose(session.run(image.numpy()), expected_output(module, image), atol=1e-4)
    assert len(session.time_calls(2)) == 2
    with pytest.raises(ValueError, match=r"torch\.compile joins layers"):
        session.layer_times()


@pytest.mark.gpu
@on_a_gpu
@pytest.mark.parametrize("mode", ["eager", "channels_last", "cuda_graph", "compile"])
def test_gpu_outputs_equal_pytorch(mode: str) -> None:
    module, image = SPEC.build().eval(), random_input(SPEC)
    session = PyTorchRunner(device="cuda", mode=mode).prepare(module, SPEC.input_shape())
    np.testing.assert_allclose(session.run(image.numpy()), expected_output(module, image), atol=1e-4)
    session.time_calls(3)
    np.testing.assert_allclose(session.run(2 * image.numpy()), expected_output(module, 2 * image), atol=1e-4)


@pytest.mark.gpu
@on_a_gpu
def test_gpu_layers_have_times() -> None:
    layers = PyTorchRunner(device="cuda").prepare(nn.Sequential(nn.Conv2d(8, 64, 3)), (1, 8, 64, 64)).layer_times()
    assert [layer.kind for layer in layers] == ["Conv2d"] and layers[0].ms > 0


PAGE_FAULTS = """
import resource
import torch
from torch import nn
from latency.runners.pytorch import PyTorchRunner

# 64 MiB in and out: beyond what glibc keeps by itself
session = PyTorchRunner(threads=1).prepare(nn.ReLU(), (1, 16, 1024, 1024))
session.time_calls(20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
session.time_calls(5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library manages memory its own way")
def test_a_warm_session_fetches_no_memory() -> None:
    root = Path(latency.__file__).parents[1]
    result = subprocess.run([sys.executable, "-c", PAGE_FAULTS], cwd=root, capture_output=True, text=True, check=True)
    pages_of_one_call = (64 << 20) // 4096
    assert int(result.stdout) < pages_of_one_call / 100


def test_another_library_is_left_alone_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert keep_freed_memory.__wrapped__() == "that of Darwin"
