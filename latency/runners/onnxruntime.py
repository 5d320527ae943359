"""The ONNX Runtime runner: one sequential executor with a fixed number of threads, or a CUDA or TensorRT provider.

The CPU provider is run by the tests. The CUDA and TensorRT providers need `onnxruntime-gpu` and a CUDA device; the
tests marked `gpu` run them there, and until somebody does, that part has been read, not run.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from latency.runners.base import (
    PROFILED_RUNS,
    Array,
    LayerTime,
    Runner,
    Session,
    TimedCall,
    median_layer_times,
    time_on_host,
)
from latency.runners.cuda import TorchStream, time_on_stream
from latency.runners.graphs import GraphRunner

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}
_LOG_ERRORS_ONLY = 3


class OnnxRuntimeSession(Session):
    """A session of ONNX Runtime with its input and output bound beforehand.

    Args:
        graph: A serialised ONNX model, or the path of one.
        runner: Device, threads, provider and TF32.

    Raises:
        ValueError: The model's input has no fixed shape, or ONNX Runtime would run it on another provider.
    """

    def __init__(self, graph: bytes | Path, *, runner: "OnnxRuntimeRunner") -> None:
        import onnxruntime

        self._model = graph if isinstance(graph, bytes) else str(graph)
        self._runner = runner
        self._stream = TorchStream() if runner.device == "cuda" else None
        providers = _provider_options(runner, self._stream)
        self._session = onnxruntime.InferenceSession(self._model, _session_options(runner.threads), providers=providers)
        # an absent library makes ONNX Runtime go on with the CPU, with no more than a warning
        if self._session.get_providers()[0] != _PROVIDERS[runner.mode]:
            raise ValueError(
                f"ONNX Runtime could not start its provider {runner.mode} and would run on the CPU; check that CUDA, "
                "cuDNN (and TensorRT, for its provider) of the versions that onnxruntime-gpu asks for are installed"
            )
        (source,), (sink,) = self._session.get_inputs(), self._session.get_outputs()
        if not all(isinstance(size, int) for size in source.shape) or len(source.shape) != 4:
            raise ValueError(f"the ONNX model's input has shape {source.shape}, expected four fixed sizes (N, C, H, W)")
        self._input_name, self._output_name = source.name, sink.name
        self.input_shape = tuple(source.shape)
        self._binding: Any = None

    def run(self, image: Array) -> Array:
        """See `Session.run`."""
        outputs = self._session.run([self._output_name], {self._input_name: self.check_input(image)})
        return np.asarray(outputs[0], dtype=np.float32)

    def time_calls(self, count: int) -> list[TimedCall]:
        """See `Session.time_calls`."""
        import onnxruntime

        if self._binding is None:
            self._binding = self._bind()
        binding, run = self._binding, self._session.run_with_iobinding
        if self._stream is None:
            return time_on_host(lambda: run(binding), count)
        options = onnxruntime.RunOptions()
        # the stream is synchronised once, at the end
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return time_on_stream(lambda: run(binding, options), count, self._stream)

    def layer_times(self) -> tuple[LayerTime, ...]:
        """See `Session.layer_times`.

        Raises:
            ValueError: The session runs on a CUDA device, whose kernels ONNX Runtime's profile does not wait for.
        """
        if self._stream is not None:
            raise ValueError(
                "ONNX Runtime's profile does not time the kernels of a CUDA device; set target.runner to tensorrt or "
                "pytorch for the times of layers"
            )
        import onnxruntime

        options = _session_options(self._runner.threads)
        with tempfile.TemporaryDirectory() as folder:
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session = onnxruntime.InferenceSession(self._model, options, providers=[_PROVIDERS["cpu"]])
            values = {self._input_name: self.random_input()}
            for _ in range(PROFILED_RUNS + 1):
                session.run([self._output_name], values)
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return median_layer_times(_profiled_runs(events)[1:])

    def _bind(self) -> Any:
        """Input and output in memory of the session's device, allocated once, as an application would keep them."""
        import onnxruntime

        device = self._runner.device
        value = onnxruntime.OrtValue.ortvalue_from_numpy(self.random_input(), device, 0)
        binding = self._session.io_binding()
        binding.bind_ortvalue_input(self._input_name, value)
        shape = self._session.get_outputs()[0].shape
        output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, device, 0)
        binding.bind_ortvalue_output(self._output_name, output)
        return binding


class OnnxRuntimeRunner(GraphRunner):
    """Runs ONNX graphs with ONNX Runtime; its modes are the execution providers."""

    name = "onnxruntime"
    package = "onnxruntime"
    install = "pip install onnxruntime"
    title = "ONNX Runtime"

    def load(self, graph: bytes | Path, *, source: str) -> Session:  # noqa: ARG002 - its failures name no graph
        """See `GraphRunner.load`.

        Raises:
            ValueError: The installed ONNX Runtime has no such provider.
        """
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if _PROVIDERS[self.mode] not in available:
            raise ValueError(
                f"the installed onnxruntime has no provider {_PROVIDERS[self.mode]} (it has {', '.join(available)}); "
                "replace it with `pip uninstall onnxruntime && pip install onnxruntime-gpu`, or set target.device "
                "to cpu"
            )
        return OnnxRuntimeSession(graph, runner=self)

    def load_failures(self) -> tuple[type[Exception], ...]:
        """See `GraphRunner.load_failures`."""
        from fasterseg.runtime.onnx_session import LOAD_FAILURES

        return LOAD_FAILURES

    def version(self) -> str:
        """See `Runner.version`."""
        import onnxruntime

        return str(onnxruntime.__version__)


def _session_options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _LOG_ERRORS_ONLY
    return options


def _provider_options(runner: Runner, stream: TorchStream | None) -> list[tuple[str, dict[str, str]]]:
    """The provider of the runner's mode, on the stream whose events stop the time."""
    if stream is None:
        return [(_PROVIDERS["cpu"], {})]
    pointer = str(stream.stream.cuda_stream)
    cuda = (_PROVIDERS["cuda"], {"user_compute_stream": pointer, "use_tf32": str(int(runner.tf32))})
    if runner.mode == "cuda":
        return [cuda]
    return [(_PROVIDERS["tensorrt"], {"user_compute_stream": pointer}), cuda]


def _profiled_runs(events: list[dict[str, Any]]) -> list[list[LayerTime]]:
    """The layers of each run in a profile; the end of a run is an event of the session, not of a node."""
    runs: list[list[LayerTime]] = []
    layers: list[LayerTime] = []
    suffix = "_kernel_time"
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith(suffix):
            layers.append(LayerTime(event["name"].removesuffix(suffix), event["args"]["op_name"], event["dur"] / 1e3))
        elif event["cat"] == "Session" and event["name"] == "model_run":
            runs.append(layers)
            layers = []
    return runs
