"""A stand-in for TensorRT, on the GPU of `gpu_double`.

It has the names of one version's real interface (`tensorrt_api.json`) and no others: what that version lacks is an
AttributeError. Its engines run the ONNX graph with ONNX Runtime, on the memory and the streams of the doubled GPU.
"""

import enum
import json
import sys
import types
from pathlib import Path
from typing import Any, ClassVar

import onnx
import onnxruntime
import pytest
import torch

from tests.latency.runners.gpu_double import STREAMS, Machine, build_pycuda_driver, read_array

API: dict[str, dict[str, dict[str, list[str]]]] = json.loads(
    (Path(__file__).parent / "tensorrt_api.json").read_text(encoding="utf-8")
)
VERSIONS = sorted(API)
LAUNCH_MS = 2.0
LAYER_MS = 0.25
PLAN, TIMINGS = b"PLAN", b"TIMINGS"


def install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts both doubles where imports find them, and makes PyTorch see the doubled GPU."""
    driver = build_pycuda_driver(machine)
    package = types.ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    for name, module in (("pycuda", package), ("pycuda.driver", driver), ("tensorrt", build_tensorrt(machine))):
        module.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, name, module)

    def prepare_torch() -> None:
        machine.torch_ready = True

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "init", prepare_torch)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Doubled GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


class Interface:
    """An object of TensorRT: the names of the real class are its only public attributes.

    Values that are set are kept; methods of the double start with an underscore, `_do_` before the real name.
    """

    _machine: ClassVar[Machine]
    _class_name: ClassVar[str]

    def __init_subclass__(cls, *, of: str) -> None:
        super().__init_subclass__()
        cls._class_name = of

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        self._check(name)
        if name in vars(self):
            return vars(self)[name]
        return object.__getattribute__(self, f"_do_{name}")

    def __setattr__(self, name: str, value: object) -> None:
        if not name.startswith("_"):
            self._check(name)
        object.__setattr__(self, name, value)

    def _check(self, name: str) -> None:
        machine = self._machine
        if name not in API[machine.version]["classes"][self._class_name]:
            raise AttributeError(f"TensorRT {machine.version} has no {self._class_name}.{name}")
        machine.used.add((self._class_name, name))


def build_tensorrt(machine: Machine) -> types.ModuleType:
    """The double of the machine's version of `tensorrt`."""
    api = API[machine.version]
    module = types.ModuleType("tensorrt")
    vars(module)["__version__"] = machine.version
    enums: dict[str, Any] = {
        name: enum.IntEnum(name, {member: number for number, member in enumerate(members)})
        for name, members in api["enums"].items()
    }
    vars(module).update(enums)

    class ILogger:
        ERROR, INTERNAL_ERROR, WARNING = range(3)

        def log(self, severity: int, message: str) -> None:
            raise NotImplementedError

    class IProfiler:
        def report_layer_time(self, layer_name: str, ms: float) -> None:
            raise NotImplementedError

    Interface._machine = machine
    vars(module).update(ILogger=ILogger, IProfiler=IProfiler, Builder=Builder, OnnxParser=OnnxParser, Runtime=Runtime)
    Builder._enums = enums
    Engine._enums = enums
    return module


class HostMemory(Interface, of="IHostMemory"):
    """Serialised data; the real one has the buffer protocol, which `bytes` takes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __bytes__(self) -> bytes:
        return self._data


class TimingCache(Interface, of="ITimingCache"):
    def __init__(self, kernels: int) -> None:
        self._kernels = kernels

    def _do_serialize(self) -> HostMemory:
        return HostMemory(TIMINGS + b"+" * self._kernels)


class BuilderConfig(Interface, of="IBuilderConfig"):
    def __init__(self, enums: dict[str, Any]) -> None:
        # as in the real one, TF32 is set until it is cleared
        self._flags = {enums["BuilderFlag"].TF32}
        self._timings: TimingCache | None = None

    def _do_set_memory_pool_limit(self, pool: int, size: int) -> None:
        assert pool.name == "WORKSPACE" and size > 0  # type: ignore[attr-defined]

    def _do_set_flag(self, flag: int) -> None:
        self._flags.add(flag)

    def _do_clear_flag(self, flag: int) -> None:
        self._flags.discard(flag)

    def _do_create_timing_cache(self, blob: bytes) -> TimingCache | None:
        self._machine.timing_blobs.append(blob)
        if blob and not blob.startswith(TIMINGS):
            return None
        return TimingCache(max(0, len(blob) - len(TIMINGS)))

    def _do_set_timing_cache(self, timings: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._timings = timings
        return True

    def _do_get_timing_cache(self) -> TimingCache | None:
        return self._timings


class NetworkDefinition(Interface, of="INetworkDefinition"):
    def __init__(self) -> None:
        self._graph = b""


class Builder(Interface, of="Builder"):
    _enums: ClassVar[dict[str, Any]]

    def __init__(self, log: Any) -> None:
        self._log = log

    def _do_create_network(self, flags: int) -> NetworkDefinition:
        assert flags == 1 << int(self._enums["NetworkDefinitionCreationFlag"].STRONGLY_TYPED)
        return NetworkDefinition()

    def _do_create_builder_config(self) -> BuilderConfig:
        return BuilderConfig(self._enums)

    def _do_build_serialized_network(self, network: NetworkDefinition, config: BuilderConfig) -> HostMemory | None:
        machine = self._machine
        machine.events.append("build")
        if "build" in machine.faults:
            self._log.log(0, "no implementation for node Conv_7")
            return None
        machine.tf32_flags.append(self._enums["BuilderFlag"].TF32 in config._flags)
        assert vars(config)["profiling_verbosity"].name == "DETAILED" and config._timings is not None
        config._timings._kernels += 1
        return HostMemory(PLAN + network._graph)


class ParserError(Interface, of="ParserError"):
    def __init__(self, text: str) -> None:
        self._text = text

    def _do_desc(self) -> str:
        return self._text


class OnnxParser(Interface, of="OnnxParser"):
    def __init__(self, network: NetworkDefinition, log: Any) -> None:
        self._network = network
        vars(self)["num_errors"] = 0

    def _do_parse(self, graph: bytes) -> bool:
        if "parse" in self._machine.faults:
            vars(self)["num_errors"] = 1
            return False
        onnx.checker.check_model(onnx.load_from_string(graph), full_check=True)
        self._network._graph = graph
        return True

    def _do_get_error(self, index: int) -> ParserError:
        return ParserError(["unsupported operator Foo"][index])


class Runtime(Interface, of="Runtime"):
    def __init__(self, log: Any) -> None:
        self._log = log

    def _do_deserialize_cuda_engine(self, plan: bytes) -> "Engine | None":
        self._machine.events.append("deserialize")
        if "deserialize" in self._machine.faults or not plan.startswith(PLAN):
            self._log.log(0, "the plan is of another version")
            return None
        return Engine(plan.removeprefix(PLAN), self._log)


class Inspector(Interface, of="EngineInspector"):
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph

    def _do_get_engine_information(self, layout: Any) -> str:
        assert layout.name == "JSON"
        return json.dumps({"Layers": [{"Name": node.name, "LayerType": node.op_type} for node in self._graph.node]})


class Engine(Interface, of="ICudaEngine"):
    _enums: ClassVar[dict[str, Any]]

    def __init__(self, graph: bytes, log: Any) -> None:
        model = onnx.load_from_string(graph)
        self._log = log
        self._graph = model.graph
        self._inputs = list(model.graph.input)
        self._tensors = {item.name: item for item in (*model.graph.output, *model.graph.input)}
        self._session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        # the output is the first tensor here, so that nobody counts on an order
        vars(self)["num_io_tensors"] = len(self._tensors)
        self._machine.alive["engine"] += 1

    def __del__(self) -> None:
        self._machine.alive["engine"] -= 1

    def _do_get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def _do_get_tensor_mode(self, name: str) -> Any:
        modes = self._enums["TensorIOMode"]
        return modes.INPUT if name in [item.name for item in self._inputs] else modes.OUTPUT

    def _do_get_tensor_shape(self, name: str) -> list[int]:
        sizes = self._tensors[name].type.tensor_type.shape.dim
        return [size.dim_value if size.HasField("dim_value") else -1 for size in sizes]

    def _do_get_tensor_dtype(self, name: str) -> Any:
        is_float = self._tensors[name].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        return self._enums["DataType"].FLOAT if is_float else self._enums["DataType"].HALF

    def _do_create_engine_inspector(self) -> Inspector:
        return Inspector(self._graph)

    def _do_create_execution_context(self) -> "ExecutionContext | None":
        return None if "context" in self._machine.faults else ExecutionContext(self)


class ExecutionContext(Interface, of="IExecutionContext"):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._addresses: dict[str, int] = {}
        vars(self)["profiler"] = None
        self._machine.alive["execution context"] += 1

    def __del__(self) -> None:
        self._machine.alive["execution context"] -= 1

    def _do_set_tensor_address(self, name: str, pointer: int) -> bool:
        assert pointer in self._machine.memory, "the address is no device memory"
        self._addresses[name] = pointer
        return "address" not in self._machine.faults

    def _do_execute_async_v3(self, stream_handle: int) -> bool:
        assert stream_handle, "the default stream is not to be used"
        if "execute" in self._machine.faults:
            self._engine._log.log(0, "illegal memory access")
            return False
        STREAMS[stream_handle].queue.append(self._execute)
        return True

    def _execute(self) -> None:
        machine, engine = self._machine, self._engine
        machine.events.append("execute")
        machine.clock_ms += LAUNCH_MS
        (source,) = engine._session.get_inputs()
        (sink,) = engine._session.get_outputs()
        image = read_array(machine, self._addresses[source.name], source.shape)
        (output,) = engine._session.run(None, {source.name: image})
        machine.memory[self._addresses[sink.name]][:] = output.tobytes()
        profiler = vars(self)["profiler"]
        if profiler is not None:
            for node in engine._graph.node:
                profiler.report_layer_time(node.name, LAYER_MS)
