"""Runs ONNX files with ONNX Runtime on the CPU; its failures become errors that name the file."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as failures

from fasterseg.base.console import CONSOLE
from fasterseg.base.machine import crowding, runtime_threads

_LOG_ERRORS_ONLY = 3
# ONNX Runtime's exceptions have no common base class.
LOAD_FAILURES = (
    failures.Fail,
    failures.InvalidArgument,
    failures.InvalidGraph,
    failures.InvalidProtobuf,
    failures.NoModel,
    failures.NotImplemented,
    failures.RuntimeException,
)


class OnnxSession:
    """An ONNX model of one static float32 input and one output, ready to run.

    Args:
        model: The file, or the serialised model.
        source: What an error message calls it; the file's path by default.
        threads: Threads within an operator; one for each available core when None.

    Attributes:
        input_shape: Shape of the input.
        output_shape: Shape of the output.
        metadata: The file's `metadata_props`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: ONNX Runtime cannot load it, or it has other inputs or outputs than these.
    """

    def __init__(self, model: Path | bytes, *, source: str | None = None, threads: int | None = None) -> None:
        name = source or (str(model) if isinstance(model, Path) else "the ONNX model")
        if isinstance(model, Path) and not model.is_file():
            raise FileNotFoundError(f"no ONNX file at {model}; `fasterseg export` writes one")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        crowded = crowding(threads, "--threads")
        if crowded is not None:
            CONSOLE.print(f"warning: {crowded}")
        chosen = runtime_threads(threads)
        if chosen is not None:
            options.intra_op_num_threads = chosen
        data = str(model) if isinstance(model, Path) else model
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except LOAD_FAILURES as error:
            raise ValueError(f"{name} cannot be loaded as an ONNX model (damaged, or not ONNX): {error}") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
            raise ValueError(
                f"{name} has inputs {[(item.name, item.type) for item in inputs]} and outputs "
                f"{[item.name for item in outputs]}, expected one float32 image and one output of logits"
            )
        self._session: Any = session
        self._input_name = inputs[0].name
        self.input_shape = _static_shape(inputs[0].shape, f"{name}: input '{inputs[0].name}'")
        self.output_shape = _static_shape(outputs[0].shape, f"{name}: output '{outputs[0].name}'")
        self.metadata: dict[str, str] = dict(session.get_modelmeta().custom_metadata_map)

    def run(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Evaluates the model on an array of `input_shape`."""
        (result,) = self._session.run(None, {self._input_name: values})
        return np.asarray(result, dtype=np.float32)


def _static_shape(shape: list[object], where: str) -> tuple[int, ...]:
    sizes = tuple(size for size in shape if isinstance(size, int))
    if len(sizes) != 4 or len(shape) != 4:
        raise ValueError(f"{where} has shape {shape}, expected four fixed sizes (N, C, H, W)")
    return sizes
