"""The OpenVINO runner: CPU, one stream, latency as the goal, float32 kept as float32."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from latency.graphs import export_graph
from latency.runners.base import Array, Runner, Session, Shape, TimedCall, require_file, time_on_host


class OpenVinoSession(Session):
    """A compiled OpenVINO model with one inference request.

    Args:
        model: A serialised ONNX model, or the path of one.
        threads: Threads of the inference.
    """

    def __init__(self, model: bytes | str, threads: int) -> None:
        import openvino

        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": True,
            # without it a CPU that can compute in bfloat16 does so
            "INFERENCE_PRECISION_HINT": "f32",
        }
        compiled = openvino.compile_model(openvino.Core().read_model(model), "CPU", options)
        shape = compiled.input(0).partial_shape
        if shape.is_dynamic or len(shape) != 4:
            raise ValueError(f"the ONNX model's input has shape {shape}, expected four fixed sizes (N, C, H, W)")
        height, width = shape[2].get_length(), shape[3].get_length()
        self.input_shape = (shape[0].get_length(), shape[1].get_length(), height, width)
        self._request: Any = compiled.create_infer_request()
        self._filled = False

    def run(self, image: Array) -> Array:
        """See `Session.run`."""
        self._filled = False
        outputs = self._request.infer([self.check_input(image)])
        return np.array(outputs[0], dtype=np.float32)

    def time_calls(self, count: int) -> list[TimedCall]:
        """See `Session.time_calls`."""
        if not self._filled:
            self._request.get_input_tensor(0).data[:] = self.random_input()
            self._filled = True
        infer = self._request.infer
        # shared: the input stays where it is and the output is not copied out; and unlike an asynchronous start,
        # `infer` stays on this thread
        return time_on_host(lambda: infer(share_inputs=True, share_outputs=True), count)


class OpenVinoRunner(Runner):
    """Runs ONNX graphs with OpenVINO on the CPU."""

    name = "openvino"
    package = "openvino"

    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """See `Runner.prepare`."""
        return OpenVinoSession(export_graph(module, input_shape), self.threads)

    def from_onnx_path(self, path: Path) -> Session:
        """See `Runner.from_onnx_path`."""
        require_file(path)
        try:
            return OpenVinoSession(str(path), self.threads)
        except RuntimeError as error:
            raise ValueError(f"OpenVINO cannot load {path}: {error}") from error

    def version(self) -> str:
        """See `Runner.version`."""
        import openvino

        return str(openvino.__version__)
