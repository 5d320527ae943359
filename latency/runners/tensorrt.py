"""The TensorRT runner: engines of TensorRT 10 or 11 on a CUDA device, memory and streams by pycuda.

It has been run against a test double of TensorRT and pycuda only, never on a GPU: every name it uses of TensorRT is
checked against the interfaces of 10.16 and 11.4, and tests marked `tensorrt` run it for real where both exist.
"""

import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from latency.runners.base import PROFILED_RUNS, Array, LayerTime, Session, Shape, TimedCall, median_layer_times
from latency.runners.cuda import DeviceTensor, PycudaStream, primary_context, time_on_stream
from latency.runners.graphs import GraphRunner
from latency.runners.tensorrt_engine import Engine, default_cache_folder, layer_kinds, load_engine


class TensorRtSession(Session):
    """An engine with one execution context, a stream, and buffers that are allocated once.

    What it holds on the device is freed by `close`, or when the session is no longer referred to; and when it cannot
    be set up.

    Args:
        engine: The engine; the session frees it.
        source: What an error message calls the network.

    Raises:
        ValueError: The engine has other inputs and outputs than one image and one output of fixed shapes in float32.
    """

    def __init__(self, engine: Engine, *, source: str) -> None:
        import tensorrt as trt

        held: dict[str, Any] = {"engine": engine}
        with primary_context(), ExitStack() as cleanup:
            self._stream = PycudaStream(cleanup=cleanup)
            names = [engine.engine.get_tensor_name(index) for index in range(engine.engine.num_io_tensors)]
            modes = [engine.engine.get_tensor_mode(name) for name in names]
            if modes.count(trt.TensorIOMode.INPUT) != 1 or len(names) != 2:
                raise ValueError(f"{source} has inputs and outputs {', '.join(names)}, expected one of each")
            names.sort(key=lambda name: engine.engine.get_tensor_mode(name) != trt.TensorIOMode.INPUT)
            self._tensors = {name: _allocate(engine, name, cleanup=cleanup, source=source) for name in names}
            self._input, self._output = self._tensors.values()
            self.input_shape = _image_shape(self._input.host.shape, source)
            held["context"] = self._create_context(engine)
            # registered last, so that what TensorRT made goes first, then buffers and stream
            cleanup.callback(held.clear)
            resources = cleanup.pop_all()
        self._held = held
        self._source = source
        self._holds_random_input = False
        self._finalizer = weakref.finalize(self, _free, resources)

    def run(self, image: Array) -> Array:
        """See `Session.run`."""
        self._holds_random_input = False
        checked = self.check_input(image)
        context = self._context()
        with primary_context():
            self._input.host[...] = checked
            self._input.upload(self._stream)
            self._launch(context)
            self._output.download(self._stream)
            self._stream.synchronize()
        return self._output.host.copy()

    def time_calls(self, count: int) -> list[TimedCall]:
        """See `Session.time_calls`."""
        context = self._context()
        with primary_context():
            self._fill()
            return time_on_stream(lambda: self._launch(context), count, self._stream)

    def layer_times(self) -> tuple[LayerTime, ...]:
        """See `Session.layer_times`; a layer of an engine is often several of the network."""
        self._context()
        engine = self._held["engine"]
        kinds = layer_kinds(engine)
        profiler = _layer_profiler()
        runs = []
        with primary_context():
            self._fill()
            # a second context, so that the one that is timed stays without a profiler
            context = self._create_context(engine)
            context.profiler = profiler
            for _ in range(PROFILED_RUNS + 1):
                profiler.times.clear()
                self._launch(context)
                self._stream.synchronize()
                runs.append([LayerTime(name, kinds.get(name, ""), ms) for name, ms in profiler.times])
            del context
        return median_layer_times(runs[1:])

    def close(self) -> None:
        """See `Session.close`."""
        self._finalizer()

    def _context(self) -> Any:
        if "context" not in self._held:
            raise ValueError(f"the session of {self._source} is closed; prepare the network again")
        return self._held["context"]

    def _create_context(self, engine: Engine) -> Any:
        """An execution context whose tensors are the session's buffers.

        Raises:
            ValueError: TensorRT cannot create one, mostly because the device has too little memory left.
        """
        context = engine.engine.create_execution_context()
        if context is None:
            raise ValueError(f"TensorRT cannot create an execution context: {engine.log.describe()}")
        for name, tensor in self._tensors.items():
            if not context.set_tensor_address(name, tensor.pointer):
                raise ValueError(f"TensorRT refuses the memory of tensor {name}: {engine.log.describe()}")
        return context

    def _launch(self, context: Any) -> None:
        if not context.execute_async_v3(self._stream.handle):
            raise ValueError(f"TensorRT cannot run {self._source}: {self._held['engine'].log.describe()}")

    def _fill(self) -> None:
        """Puts the input that times are measured on into the device's memory."""
        if not self._holds_random_input:
            self._input.host[...] = self.random_input()
            self._input.upload(self._stream)
            self._stream.synchronize()
            self._holds_random_input = True


class TensorRtRunner(GraphRunner):
    """Builds and runs engines with TensorRT; the first time, it takes seconds to minutes to build one."""

    name = "tensorrt"
    package = "tensorrt"
    more_packages = ("pycuda",)
    install = "pip install -e '.[tensorrt]'"
    title = "TensorRT"

    def load(self, graph: bytes | Path, *, source: str) -> Session:
        """See `GraphRunner.load`.

        Raises:
            ValueError: TensorRT cannot read, build or load it.
        """
        model = graph if isinstance(graph, bytes) else graph.read_bytes()
        folder = self.engine_cache or default_cache_folder()
        return TensorRtSession(load_engine(model, tf32=self.tf32, folder=folder, source=source), source=source)

    def version(self) -> str:
        """See `Runner.version`."""
        import tensorrt

        return str(tensorrt.__version__)


def _allocate(engine: Engine, name: str, *, cleanup: ExitStack, source: str) -> DeviceTensor:
    """Memory for one of the engine's inputs and outputs.

    Raises:
        ValueError: Its shape is not fixed, or it is no float32.
    """
    import tensorrt as trt

    shape = tuple(engine.engine.get_tensor_shape(name))
    if min(shape, default=1) < 1:
        raise ValueError(f"{source}: tensor {name} has shape {shape}, expected fixed sizes")
    dtype = engine.engine.get_tensor_dtype(name)
    if dtype != trt.DataType.FLOAT:
        raise ValueError(f"{source}: tensor {name} is of type {dtype}, expected float32")
    return DeviceTensor(shape, cleanup=cleanup)


def _image_shape(shape: tuple[int, ...], source: str) -> Shape:
    if len(shape) != 4:
        raise ValueError(f"{source}: the input has shape {shape}, expected four fixed sizes (N, C, H, W)")
    batch_size, channels, height, width = shape
    return batch_size, channels, height, width


def _free(resources: ExitStack) -> None:
    with primary_context():
        resources.close()


def _layer_profiler() -> Any:
    """A profiler that collects what TensorRT reports."""
    import tensorrt as trt

    class LayerProfiler(trt.IProfiler):  # type: ignore[misc]
        """Collects (name, ms) of each layer."""

        def __init__(self) -> None:
            trt.IProfiler.__init__(self)
            self.times: list[tuple[str, float]] = []

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            """Called by TensorRT."""
            self.times.append((layer_name, ms))

    return LayerProfiler()
