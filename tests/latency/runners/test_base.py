"""What holds for every runner: what it computes, what it times, what it tells."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fasterseg.networks import DeployedNetwork, SpaceConfig, build_network
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.operator_specs import CellSpec, random_input
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.sampling import random_architecture
from fasterseg.runtime.export import onnx_bytes
from latency.runners.base import Conditions, LayerTime, Runner, Session, median_layer_times
from latency.runners.selection import RUNNERS

SPEC = CellSpec(operator="conv_2x_downup", in_channels=8, out_channels=16, stride=1, height=9, width=14)
ONNX_RUNNERS = ["onnxruntime", "openvino"]
CPU_RUNNERS = [("onnxruntime", "auto"), ("openvino", "auto"), ("pytorch", "eager"), ("pytorch", "channels_last")]


@pytest.fixture(params=CPU_RUNNERS, ids="-".join)
def runner(request: pytest.FixtureRequest) -> Runner:
    name, mode = request.param
    pytest.importorskip(RUNNERS[name].package, reason=f"{name} is not installed")
    return RUNNERS[name](threads=1, mode=mode)


def searched(seed: int) -> Architecture:
    space = SpaceConfig(layers=8, base_channels=4, widths=(0.5, 1.0), student_width=0.5)
    return random_architecture(space, "student", random.Random(seed))


def with_statistics(module: nn.Module) -> nn.Module:
    """The module with batch norms that do something, so that one folded wrongly shows."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None and part.running_var is not None
            part.running_mean.normal_(std=0.1)
            part.running_var.uniform_(0.5, 2.0)
    return module.eval()


NETWORKS = {
    "searched-1": (lambda: searched(1), (64, 96)),
    "searched-2-odd": (lambda: searched(2), (65, 97)),
    "icnet-odd": (lambda: ICNetArchitecture(width_factor=0.25), (97, 131)),
    "pspnet": (lambda: PSPNetArchitecture(width_factor=0.125), (96, 96)),
}


@pytest.fixture(scope="module", params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Iterator[tuple[nn.Module, torch.Tensor, np.ndarray]]:
    """A deployed network, an image, and what PyTorch computes of it."""
    build, size = NETWORKS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = with_statistics(DeployedNetwork(build_network(build(), 3)))
        image = torch.randn(1, 3, *size)
    with torch.inference_mode():
        yield module, image, module(image).numpy()


def test_networks_compute_what_pytorch_computes(
    runner: Runner, network: tuple[nn.Module, torch.Tensor, np.ndarray]
) -> None:
    module, image, expected = network
    shape = tuple(image.shape)
    assert len(shape) == 4
    output = runner.prepare(module, shape).run(image.numpy())
    assert output.dtype == np.float32 and output.shape == expected.shape
    assert np.abs(output - expected).max() <= 1e-4 * max(1.0, float(np.abs(expected).max()))


def test_timing_leaves_no_trace_in_what_is_computed(runner: Runner) -> None:
    torch.manual_seed(0)
    module = SPEC.build().eval()
    image = random_input(SPEC)
    with torch.inference_mode():
        expected = module(image).numpy()
    session = runner.prepare(module, SPEC.input_shape())
    np.testing.assert_allclose(session.run(image.numpy()), expected, atol=1e-4)
    session.time_calls(2)
    np.testing.assert_allclose(session.run(image.numpy()), expected, atol=1e-4)


@pytest.mark.parametrize("module", [nn.Identity(), nn.ReLU()])
def test_a_result_stays_when_the_next_one_comes(runner: Runner, module: nn.Module) -> None:
    session = runner.prepare(module, (1, 2, 4, 4))
    image = np.random.default_rng(0).random((1, 2, 4, 4), dtype=np.float32)
    first = session.run(image)
    session.run(image + 1)
    session.time_calls(1)
    np.testing.assert_array_equal(first, image)


def test_a_slower_operator_measures_slower(runner: Runner) -> None:
    """36 times the multiply-accumulates take at least three times as long, in the quietest of several turns."""
    shape = (1, 32, 64, 64)
    quick, slow = (runner.prepare(nn.Conv2d(32, 32, size, padding="same"), shape) for size in (1, 6))
    times: dict[Session, list[float]] = {quick: [], slow: []}
    for _ in range(5):
        for session in times:
            session.time_calls(2)
            times[session] += [call.duration_ms for call in session.time_calls(5)]
    assert min(times[slow]) > 3 * min(times[quick])


def test_times_are_positive_and_as_many_as_asked_for(runner: Runner) -> None:
    with runner.prepare(SPEC.build(), SPEC.input_shape()) as session:
        calls = session.time_calls(4)
    assert len(calls) == 4 and all(call.duration_ms > 0 for call in calls)


def test_layers_have_names_kinds_and_times(runner: Runner) -> None:
    session = runner.prepare(nn.Sequential(nn.Conv2d(32, 64, 7), nn.ReLU(), nn.MaxPool2d(2)), (1, 32, 40, 40))
    layers = session.layer_times()
    kinds = " ".join(layer.kind.lower() for layer in layers)
    assert "conv" in kinds and "pool" in kinds
    assert len({layer.name for layer in layers}) == len(layers) and all(layer.ms >= 0 for layer in layers)
    # 1568 multiply-accumulates for each of the values that the other two look at
    assert max(layers, key=lambda layer: layer.ms).kind.lower().startswith("conv")


def test_an_input_of_another_shape_is_refused(runner: Runner) -> None:
    session = runner.prepare(SPEC.build(), SPEC.input_shape())
    with pytest.raises(ValueError, match=r"input has shape \(1, 8, 9, 15\), this session was prepared for"):
        session.run(np.zeros((1, 8, 9, 15), dtype=np.float32))


def test_conditions_name_versions_and_machine(runner: Runner) -> None:
    conditions = runner.conditions()
    assert (conditions.runner, conditions.device, conditions.threads) == (runner.name, "cpu", 1)
    assert (conditions.mode, conditions.tf32, conditions.clocks_mhz) == (runner.mode, False, {})
    assert conditions.device_name and conditions.versions["torch"] == str(torch.__version__)
    assert runner.package in conditions.versions


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
    assert session.layer_times()


QUANTIZED = """<ir_version: 8, opset_import: ["" : 18]>
quantized (float[1, 3, 8, 10] image) => (float[1, 3, 8, 10] out) <float step = {0.05}, int8 zero = {0}> {
    whole = QuantizeLinear(image, step, zero)
    rounded = DequantizeLinear(whole, step, zero)
    out = Relu(rounded)
}"""


@pytest.mark.parametrize("name", ONNX_RUNNERS)
def test_a_file_in_int8_runs(name: str, tmp_path: Path) -> None:
    """INT8 is in the graph: its Q/DQ nodes say what is rounded, and to what step."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    path = tmp_path / "quantized.onnx"
    path.write_bytes(onnx.parser.parse_model(QUANTIZED).SerializeToString())
    session = RUNNERS[name](threads=1).from_onnx_path(path)
    image = np.random.default_rng(0).standard_normal((1, 3, 8, 10), dtype=np.float32)
    expected = np.maximum(np.round(image / 0.05) * 0.05, 0)
    output = session.run(image)
    np.testing.assert_allclose(output, expected, atol=1e-5)
    assert np.abs(output - np.maximum(image, 0)).max() > 0.02
    assert session.time_calls(1)[0].duration_ms > 0


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


def test_a_layers_time_is_the_median_of_the_runs() -> None:
    runs = [[LayerTime("a", "Conv", ms), LayerTime("b", "Relu", 1.0), LayerTime("a", "Conv", 1.0)] for ms in (1, 9, 2)]
    assert median_layer_times(runs) == (LayerTime("a", "Conv", 3.0), LayerTime("b", "Relu", 1.0))


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({}, "onnxruntime"),
        ({"runner": "pytorch", "mode": "eager"}, "pytorch"),
        ({"runner": "pytorch", "mode": "channels_last", "precision": "bf16"}, "pytorch_channels_last_bf16"),
        ({"runner": "pytorch", "device": "cuda", "mode": "cuda_graph", "tf32": True}, "pytorch_cuda_tf32"),
        ({"runner": "tensorrt", "device": "cuda", "mode": "default", "precision": "fp16"}, "tensorrt_fp16"),
        ({"runner": "openvino", "mode": "default", "threads": 4}, "openvino_4threads"),
    ],
)
def test_what_is_not_usual_stands_in_the_name(conditions: Conditions, values: dict[str, Any], name: str) -> None:
    assert replace(conditions, **values).setup_name == name
