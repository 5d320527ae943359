"""The OpenVINO runner: one stream, latency as the goal, the number format asked for; on a CPU, or Intel's GPU and NPU.

The CPU is run by the tests; `gpu` and `npu` are OpenVINO's names of devices of Intel, which the tests had none of.
"""

import functools
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
from latency.runners.graphs import GraphRunner

_HINTS = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


class OpenVinoSession(Session):
    """A compiled OpenVINO model with one inference request.

    Args:
        graph: A serialised ONNX model, or the path of one.
        runner: Device, threads and precision.

    Raises:
        ValueError: The model's input has no fixed shape.
    """

    def __init__(self, graph: bytes | Path, *, runner: "OpenVinoRunner") -> None:
        self._graph = graph
        self._runner = runner
        compiled = _compile(graph, runner)
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

    def layer_times(self) -> tuple[LayerTime, ...]:
        """See `Session.layer_times`; layers that OpenVINO joined to others are left out."""
        request = _compile(self._graph, self._runner, PERF_COUNT=True).create_infer_request()
        request.get_input_tensor(0).data[:] = self.random_input()
        request.infer()
        runs = []
        for _ in range(PROFILED_RUNS):
            request.infer()
            runs.append(
                [
                    LayerTime(layer.node_name, layer.node_type, layer.real_time.total_seconds() * 1e3)
                    for layer in request.get_profiling_info()
                    if layer.status.name == "EXECUTED"
                ]
            )
        return median_layer_times(runs)


class OpenVinoRunner(GraphRunner):
    """Runs ONNX graphs with OpenVINO."""

    name = "openvino"
    package = "openvino"
    install = "pip install openvino"
    title = "OpenVINO"
    precision_is_in_graph = False

    def load(self, graph: bytes | Path, *, source: str) -> Session:  # noqa: ARG002 - its failures name no graph
        """See `GraphRunner.load`.

        Raises:
            ValueError: OpenVINO does not find the device, or the device cannot compute in the precision.
        """
        return OpenVinoSession(graph, runner=self)

    def load_failures(self) -> tuple[type[Exception], ...]:
        """See `GraphRunner.load_failures`."""
        return (RuntimeError,)

    def version(self) -> str:
        """See `Runner.version`."""
        import openvino

        return str(openvino.__version__)

    def device_name(self) -> str:
        """See `Runner.device_name`."""
        if self.device == "cpu":
            return super().device_name()
        return str(_find_device(self).get_property(self.device.upper(), "FULL_DEVICE_NAME"))


@functools.cache
def process_core() -> Any:
    """The one core of this process, which is never destroyed.

    On a CPU with AMX a core sets the thread's alternate signal stack, and restores the previous one when it is
    destroyed. A second core that outlives the first restores memory that was freed. The next signal with a handler then
    ends the process, such as the signal of a data loader's worker or of any child process after one.
    """
    import openvino

    return openvino.Core()


def _find_device(runner: Runner) -> Any:
    """OpenVINO's core, after it was asked for the device and for what that can compute.

    Raises:
        ValueError: It has no such device, or not that precision, which it would replace without a word.
    """
    core = process_core()
    device = runner.device.upper()
    if not any(name.split(".")[0] == device for name in core.available_devices):
        raise ValueError(
            f"OpenVINO finds no {device} (it finds {', '.join(core.available_devices)}); install that device's driver, "
            "or set target.device to cpu"
        )
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if runner.precision.upper() not in capabilities:
        raise ValueError(
            f"this {device} cannot compute in {runner.precision} (OpenVINO names {', '.join(capabilities)}); set "
            "target.precision to fp32"
        )
    return core


def _compile(graph: bytes | Path, runner: Runner, **more: object) -> Any:
    options: dict[str, object] = {
        "PERFORMANCE_HINT": "LATENCY",
        # without it a CPU that can compute in bfloat16 does so
        "INFERENCE_PRECISION_HINT": _HINTS[runner.precision],
        **more,
    }
    if runner.device == "cpu":
        options |= {"INFERENCE_NUM_THREADS": runner.threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": True}
    core = _find_device(runner)
    return core.compile_model(core.read_model(graph), runner.device.upper(), options)
