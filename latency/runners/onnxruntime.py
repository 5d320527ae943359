"""The ONNX Runtime runner: CPU, one sequential executor with a fixed number of threads."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from latency.graphs import export_graph
from latency.runners.base import Array, Runner, Session, Shape, TimedCall, require_file, time_on_host


class OnnxRuntimeSession(Session):
    """A session of ONNX Runtime with its input and output bound beforehand.

    Args:
        model: A serialised ONNX model, or the path of one.
        threads: Threads within one operator.
    """

    def __init__(self, model: bytes | str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
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
        if self._binding is None:
            import onnxruntime

            value = onnxruntime.OrtValue.ortvalue_from_numpy(self.random_input())
            self._binding = self._session.io_binding()
            self._binding.bind_ortvalue_input(self._input_name, value)
            # the output's memory is allocated once: a buffer of the caller's, as an application would keep one
            shape = self._session.get_outputs()[0].shape
            output = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
            self._binding.bind_ortvalue_output(self._output_name, output)
        binding, run = self._binding, self._session.run_with_iobinding
        return time_on_host(lambda: run(binding), count)


class OnnxRuntimeRunner(Runner):
    """Runs ONNX graphs with ONNX Runtime on the CPU."""

    name = "onnxruntime"
    package = "onnxruntime"

    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """See `Runner.prepare`."""
        return OnnxRuntimeSession(export_graph(module, input_shape), self.threads)

    def from_onnx_path(self, path: Path) -> Session:
        """See `Runner.from_onnx_path`."""
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf

        try:
            return OnnxRuntimeSession(str(require_file(path)), self.threads)
        except (Fail, InvalidGraph, InvalidProtobuf) as error:
            raise ValueError(f"ONNX Runtime cannot load {path}: {error}") from error

    def version(self) -> str:
        """See `Runner.version`."""
        import onnxruntime

        return str(onnxruntime.__version__)
