"""From an ONNX graph to a TensorRT engine, with caches of engines and of kernel timings on disk; TensorRT 10 and 11.

Networks are strongly typed: the number format of every layer is that of the graph, in both versions. What remains to
be chosen is whether float32 layers may round their inputs to TF32, which TensorRT does unless it is told not to.

An engine is kept under a name made of everything it depends on: graph, TF32, TensorRT's version and the device. The
timings of kernels depend on version and device alone, so all graphs share them.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fasterseg.base.console import CONSOLE
from fasterseg.base.files import write_bytes

VERSIONS = (10, 11)
_WORKSPACE_BYTES = 2 << 30
_DIGITS = 32


class Engine(NamedTuple):
    """A deserialised engine and what has to live as long as it does.

    Attributes:
        engine: TensorRT's engine.
        runtime: What deserialised it.
        log: Where TensorRT's messages went.
    """

    engine: Any
    runtime: Any
    log: Any


def default_cache_folder() -> Path:
    """Where engines are kept when nothing else is asked for: in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "fasterseg" / "tensorrt"


def load_engine(graph: bytes, *, tf32: bool, folder: Path, source: str) -> Engine:
    """The engine of a graph: from the cache, or built and put there.

    Args:
        graph: A serialised ONNX model of fixed shapes.
        tf32: Whether float32 layers may round their inputs to TF32.
        folder: The cache.
        source: What an error message calls the graph.

    Raises:
        ValueError: TensorRT is of another major version, cannot read or build the graph, or cannot load the engine.
    """
    trt = _tensorrt()
    log = _message_log(trt)
    surroundings = {
        "tensorrt": trt.__version__,
        "device": torch.cuda.get_device_name(),
        "capability": torch.cuda.get_device_capability(),
    }
    settings = {**surroundings, "tf32": tf32, "workspace": _WORKSPACE_BYTES}
    path = folder / f"{_digest(graph, settings)}.engine"
    runtime = trt.Runtime(log)
    if path.is_file():
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is not None:
            return Engine(engine, runtime, log)
        CONSOLE.print(f"TensorRT cannot load the cached engine {path}; building it again")
    plan = _build_plan(graph, log, tf32=tf32, timings=folder / f"{_digest(b'', surroundings)}.timings", source=source)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise ValueError(f"TensorRT cannot load the engine it built of {source}: {log.describe()}")
    write_bytes(path, plan)
    return Engine(engine, runtime, log)


def layer_kinds(engine: Engine) -> dict[str, str]:
    """The kind of each layer of an engine, by name."""
    trt = _tensorrt()
    inspector = engine.engine.create_engine_inspector()
    layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))["Layers"]
    return {layer["Name"]: layer["LayerType"] for layer in layers}


def _tensorrt() -> Any:
    """The installed TensorRT.

    Raises:
        ValueError: It is of a major version that this module does not know.
    """
    import tensorrt

    if int(tensorrt.__version__.split(".")[0]) not in VERSIONS:
        raise ValueError(
            f"TensorRT {tensorrt.__version__} is installed, runner tensorrt knows versions "
            f"{' and '.join(map(str, VERSIONS))}; install one with `pip install 'tensorrt>=10.3,<12'`"
        )
    return tensorrt


def _build_plan(graph: bytes, log: Any, *, tf32: bool, timings: Path, source: str) -> bytes:
    """The serialised engine of a graph.

    Raises:
        ValueError: TensorRT cannot read or build the graph.
    """
    trt = _tensorrt()
    builder = trt.Builder(log)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(graph):
        errors = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        raise ValueError(f"TensorRT cannot read {source}: {'; '.join(errors) or log.describe()}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, _WORKSPACE_BYTES)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if tf32:
        config.set_flag(trt.BuilderFlag.TF32)
    else:
        config.clear_flag(trt.BuilderFlag.TF32)
    _use_timings(config, timings)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ValueError(f"TensorRT cannot build an engine of {source}: {log.describe()}")
    write_bytes(timings, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _use_timings(config: Any, path: Path) -> None:
    """Gives the builder the kernel timings of earlier builds; a file that TensorRT cannot read starts anew."""
    timings = config.create_timing_cache(path.read_bytes()) if path.is_file() else None
    if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
        if path.is_file():
            CONSOLE.print(f"TensorRT cannot use the kernel timings in {path}; measuring them again")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _digest(graph: bytes, settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(graph)
    return digest.hexdigest()[:_DIGITS]


def _message_log(trt: Any) -> Any:
    """A logger that keeps TensorRT's errors for our own, and the rest off the user's screen."""

    class MessageLog(trt.ILogger):  # type: ignore[misc]
        """Collects errors."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            """Called by TensorRT."""
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

        def describe(self) -> str:
            """The errors so far in one line."""
            return "; ".join(self.errors) or "it gave no reason"

    return MessageLog()
