"""The TensorRT runner against a double of TensorRT and pycuda; the tests marked `tensorrt` run it on a GPU."""

import ast
import gc
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import latency.runners
from fasterseg.networks.operator_specs import CellSpec
from latency.runners import cuda
from latency.runners.base import PROFILED_RUNS
from latency.runners.graphs import export_graph
from latency.runners.tensorrt import TensorRtRunner
from latency.runners.tensorrt_engine import default_cache_folder
from tests.latency.runners.gpu_double import Machine
from tests.latency.runners.tensorrt_double import API, LAUNCH_MS, LAYER_MS, TIMINGS, VERSIONS, install

SPEC = CellSpec(operator="conv_2x_downup", in_channels=8, out_channels=16, stride=2, height=9, width=13)
SOURCES = sorted(Path(latency.runners.__file__).parent.glob("tensorrt*.py"))


@pytest.fixture(params=VERSIONS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(version=request.param)
    install(machine, monkeypatch)
    cuda.retained_context.cache_clear()
    yield machine
    gc.collect()
    cuda.retained_context.cache_clear()
    assert not machine.problems and not machine.context_stack


@pytest.fixture
def runner(machine: Machine, tmp_path: Path) -> TensorRtRunner:
    return TensorRtRunner(device="cuda", engine_cache=tmp_path / "engines")


def operator() -> nn.Module:
    torch.manual_seed(0)
    return SPEC.build().eval()


def expected_output(module: nn.Module, image: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return np.asarray(module(torch.from_numpy(image)))


def random_image() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(SPEC.input_shape(), dtype=np.float32)


def test_builds_runs_and_frees(machine: Machine, runner: TensorRtRunner) -> None:
    module, image = operator(), random_image()
    with runner.prepare(module, SPEC.input_shape()) as session:
        assert session.input_shape == SPEC.input_shape()
        np.testing.assert_allclose(session.run(image), expected_output(module, image), atol=1e-4)
        session.time_calls(2)
        np.testing.assert_allclose(session.run(image), expected_output(module, image), atol=1e-4)
        assert machine.leftovers() == {
            "device memory": 2, "host memory": 2, "stream": 1, "engine": 1, "execution context": 1
        }  # fmt: skip
    assert machine.leftovers() == {}
    assert (machine.count("build"), machine.count("retain")) == (1, 1)
    with pytest.raises(ValueError, match="the session of the network is closed"):
        session.run(image)


def test_a_result_stays_when_the_next_one_comes(runner: TensorRtRunner) -> None:
    session = runner.prepare(operator(), SPEC.input_shape())
    first = session.run(random_image())
    kept = first.copy()
    session.run(2 * random_image())
    np.testing.assert_array_equal(first, kept)


def test_a_session_nobody_refers_to_frees_everything(machine: Machine, runner: TensorRtRunner) -> None:
    session = runner.prepare(operator(), SPEC.input_shape())
    assert machine.leftovers()
    del session
    assert machine.leftovers() == {}


def test_times_are_those_of_the_device_with_one_synchronisation(machine: Machine, runner: TensorRtRunner) -> None:
    session = runner.prepare(operator(), SPEC.input_shape())
    session.time_calls(1)
    before = machine.synchronizations
    assert [call.duration_ms for call in session.time_calls(50)] == [LAUNCH_MS] * 50
    assert machine.synchronizations == before + 1


def test_half_precision_is_in_the_graph(machine: Machine, runner: TensorRtRunner) -> None:
    module, image = operator(), random_image()
    half = TensorRtRunner(device="cuda", precision="fp16", engine_cache=runner.engine_cache)
    output = half.prepare(module, SPEC.input_shape()).run(image)
    expected = expected_output(module, image)
    difference = np.abs(output - expected).max() / np.abs(expected).max()
    assert output.dtype == np.float32 and 0 < difference < 1e-2


@pytest.mark.parametrize("tf32", [True, False])
def test_tf32_is_as_asked_for(machine: Machine, tmp_path: Path, tf32: bool) -> None:
    TensorRtRunner(device="cuda", tf32=tf32, engine_cache=tmp_path).prepare(operator(), SPEC.input_shape())
    assert machine.tf32_flags == [tf32]


def test_layer_times_come_from_a_context_of_their_own(machine: Machine, runner: TensorRtRunner) -> None:
    session = runner.prepare(operator(), SPEC.input_shape())
    layers = session.layer_times()
    assert [layer.kind for layer in layers].count("Conv") == 2
    assert all(layer.ms == LAYER_MS for layer in layers)
    assert machine.alive["execution context"] == 1 and machine.count("execute") == PROFILED_RUNS + 1


def test_an_exported_file_runs(runner: TensorRtRunner, tmp_path: Path) -> None:
    module = nn.Conv2d(3, 4, 3).eval()
    path = tmp_path / "with space.onnx"
    path.write_bytes(export_graph(module, (1, 3, 10, 11)))
    image = np.random.default_rng(0).standard_normal((1, 3, 10, 11), dtype=np.float32)
    np.testing.assert_allclose(
        runner.from_onnx_path(path).run(image), module(torch.from_numpy(image)).detach().numpy(), atol=1e-4
    )
    with pytest.raises(FileNotFoundError, match="no ONNX file at"):
        runner.from_onnx_path(tmp_path / "absent.onnx")


def test_an_engine_is_built_once(machine: Machine, runner: TensorRtRunner) -> None:
    module, image = operator(), random_image()
    runner.prepare(module, SPEC.input_shape())
    session = runner.prepare(module, SPEC.input_shape())
    assert machine.count("build") == 1
    np.testing.assert_allclose(session.run(image), expected_output(module, image), atol=1e-4)


def test_an_engine_holds_for_one_graph_setting_version_and_device(
    machine: Machine, runner: TensorRtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = operator()
    cache = runner.engine_cache
    runner.prepare(module, SPEC.input_shape())
    TensorRtRunner(device="cuda", tf32=True, engine_cache=cache).prepare(module, SPEC.input_shape())
    TensorRtRunner(device="cuda", precision="fp16", engine_cache=cache).prepare(module, SPEC.input_shape())
    runner.prepare(nn.Conv2d(8, 4, 1).eval(), SPEC.input_shape())
    assert machine.count("build") == 4
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Another GPU")
    runner.prepare(module, SPEC.input_shape())
    assert machine.count("build") == 5
    monkeypatch.setattr("tensorrt.__version__", machine.version + ".1")
    runner.prepare(module, SPEC.input_shape())
    assert machine.count("build") == 6


def test_a_damaged_cached_engine_is_built_again(
    machine: Machine, runner: TensorRtRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.prepare(operator(), SPEC.input_shape())
    assert runner.engine_cache is not None
    (path,) = runner.engine_cache.glob("*.engine")
    path.write_bytes(b"half of an eng")
    runner.prepare(operator(), SPEC.input_shape())
    assert machine.count("build") == 2 and "cannot load the cached engine" in capsys.readouterr().out
    runner.prepare(operator(), SPEC.input_shape())
    assert machine.count("build") == 2


def test_kernel_timings_are_shared_by_graphs(
    machine: Machine, runner: TensorRtRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    for channels in (2, 3):
        runner.prepare(nn.Conv2d(8, channels, 1).eval(), SPEC.input_shape())
    assert machine.timing_blobs == [b"", TIMINGS + b"+"]
    assert runner.engine_cache is not None
    (path,) = runner.engine_cache.glob("*.timings")
    path.write_bytes(b"damaged")
    runner.prepare(nn.Conv2d(8, 4, 1).eval(), SPEC.input_shape())
    assert machine.timing_blobs[2:] == [b"damaged", b""]
    assert "cannot use the kernel timings" in capsys.readouterr().out
    assert path.read_bytes() == TIMINGS + b"+"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("parse", "TensorRT cannot read the network: unsupported operator Foo"),
        ("build", "TensorRT cannot build an engine of the network: no implementation for node Conv_7"),
        ("deserialize", "TensorRT cannot load the engine it built of the network: the plan is of another version"),
        ("context", "TensorRT cannot create an execution context: it gave no reason"),
        ("address", "TensorRT refuses the memory of tensor"),
        ("mem_alloc", "too little memory for a tensor of shape"),
    ],
)
def test_a_failure_is_told_and_leaves_nothing_behind(
    machine: Machine, runner: TensorRtRunner, fault: str, message: str
) -> None:
    machine.faults.add(fault)
    with pytest.raises(ValueError, match=message):
        runner.prepare(operator(), SPEC.input_shape())
    gc.collect()
    assert machine.leftovers() == {}
    assert runner.engine_cache is not None
    unloadable = fault in ("parse", "build", "deserialize")
    assert not (unloadable and list(runner.engine_cache.glob("*.engine")))
    machine.faults.clear()
    runner.prepare(operator(), SPEC.input_shape()).run(random_image())


def test_a_run_that_fails_is_told_and_can_be_closed(machine: Machine, runner: TensorRtRunner) -> None:
    session = runner.prepare(operator(), SPEC.input_shape())
    machine.faults.add("execute")
    with pytest.raises(ValueError, match="TensorRT cannot run the network: illegal memory access"):
        session.run(random_image())
    with pytest.raises(ValueError, match="TensorRT cannot run"):
        session.layer_times()
    session.close()
    gc.collect()
    assert machine.leftovers() == {}
    session.close()


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("(float[1,3,5,6] image) => (float[1,3,5,6] out, float[1,3,5,6] more)", "expected one of each"),
        ("(float[1,3,N,6] image) => (float[1,3,N,6] out)", "expected fixed sizes"),
        ("(float[1,3,5] image) => (float[1,3,5] out)", r"the input has shape \(1, 3, 5\), expected four fixed sizes"),
        ("(float16[1,3,5,6] image) => (float16[1,3,5,6] out)", "expected float32"),
    ],
)
def test_foreign_inputs_and_outputs_are_refused(
    machine: Machine, runner: TensorRtRunner, tmp_path: Path, signature: str, message: str
) -> None:
    path = tmp_path / "model.onnx"
    more = "more = Relu(image)" if "more" in signature else ""
    text = f'<ir_version: 8, opset_import: ["" : 18]> model {signature} {{ out = Relu(image) {more} }}'
    path.write_bytes(onnx.parser.parse_model(text).SerializeToString())
    with pytest.raises(ValueError, match=message):
        runner.from_onnx_path(path)
    gc.collect()
    assert machine.leftovers() == {}


def test_another_major_version_is_refused(
    machine: Machine, runner: TensorRtRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tensorrt.__version__", "8.6.1")
    with pytest.raises(ValueError, match="TensorRT 8.6.1 is installed, runner tensorrt knows versions 10 and 11"):
        runner.prepare(operator(), SPEC.input_shape())


def test_engines_are_kept_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "fasterseg" / "tensorrt"


def test_conditions(machine: Machine, runner: TensorRtRunner) -> None:
    conditions = runner.conditions()
    assert (conditions.device_name, conditions.tf32) == ("Doubled GPU", False)
    assert conditions.versions["tensorrt"] == machine.version


def test_every_name_is_in_the_interface(machine: Machine, runner: TensorRtRunner) -> None:
    """The double refuses other names; here the names that were used are also compared with both versions."""
    with runner.prepare(operator(), SPEC.input_shape()) as session:
        session.run(random_image())
        session.time_calls(1)
        session.layer_times()
    expected = {("Builder", "build_serialized_network"), ("IExecutionContext", "execute_async_v3")}
    assert expected <= machine.used and len(machine.used) > 20
    for version in VERSIONS:
        missing = [f"{name}.{member}" for name, member in machine.used if member not in API[version]["classes"][name]]
        assert not missing, f"TensorRT {version} lacks {missing}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_name_in_the_source_is_in_the_interface(path: Path, version: str) -> None:
    """`trt.A` and `trt.A.B` wherever they stand, run or not; and every method called on what TensorRT returns."""
    classes, enums = API[version]["classes"], API[version]["enums"]
    known = {**classes, **enums}
    methods = {member for members in known.values() for member in members}
    found = 0
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in ("trt", "tensorrt"):
            assert node.attr in known or node.attr == "__version__", f"{path.name}:{node.lineno} {node.attr}"
            found += 1
        elif (
            isinstance(node.value, ast.Attribute)
            and isinstance(node.value.value, ast.Name)
            and node.value.value.id == "trt"
        ):
            assert node.attr in known[node.value.attr] or node.attr == "__init__", f"{path.name}:{node.lineno}"
            found += 1
        elif isinstance(node.value, ast.Name) and node.value.id in TENSORRT_VARIABLES:
            assert node.attr in methods, f"{path.name}:{node.lineno} {node.value.id}.{node.attr}"
            found += 1
    assert found >= 5


TENSORRT_VARIABLES = ("builder", "network", "parser", "config", "context", "inspector", "runtime", "timings")

HAS_TENSORRT = torch.cuda.is_available() and all(map(importlib.util.find_spec, ("tensorrt", "pycuda")))
on_a_gpu = pytest.mark.skipif(not HAS_TENSORRT, reason="needs TensorRT, pycuda and a CUDA device")


@pytest.mark.tensorrt
@on_a_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_real_outputs_equal_pytorch(tmp_path: Path, precision: str, tolerance: float) -> None:
    module, image = operator(), random_image()
    runner = TensorRtRunner(device="cuda", precision=precision, engine_cache=tmp_path)
    with runner.prepare(module, SPEC.input_shape()) as session:
        session.time_calls(2)
        np.testing.assert_allclose(session.run(image), expected_output(module, image), atol=tolerance)
        assert session.layer_times()
    # from the cache
    with runner.prepare(module, SPEC.input_shape()) as session:
        np.testing.assert_allclose(session.run(image), expected_output(module, image), atol=tolerance)


@pytest.mark.tensorrt
@on_a_gpu
def test_real_slower_is_slower_and_memory_comes_back(tmp_path: Path) -> None:
    runner = TensorRtRunner(device="cuda", engine_cache=tmp_path)
    shape = (1, 64, 256, 512)
    medians = []
    free_before = 0
    for repetition in range(3):
        for width in (64, 512):
            with runner.prepare(nn.Conv2d(64, width, 3, padding=1), shape) as session:
                session.time_calls(20)
                medians.append(float(np.median([call.duration_ms for call in session.time_calls(20)])))
        if repetition == 0:
            free_before = torch.cuda.mem_get_info()[0]
    assert medians[1] > 2 * medians[0]
    assert torch.cuda.mem_get_info()[0] > free_before - (8 << 20)
