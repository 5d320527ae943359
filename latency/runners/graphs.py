"""Runners of ONNX graphs: from a module to the graph that is timed, in milliseconds rather than seconds.

A table has hundreds of operators, and the recommended exporter (`dynamo=True`, which writes the files that are
deployed) takes about half a second for each. PyTorch's tracing exporter takes a hundredth of that, and a runtime
turns both graphs into the same one; `tests/latency/runners/test_graphs.py` proves it for every operator.

`export_graph` is thus the second exporter beside `fasterseg.runtime.export`. Two things must stay equal to what a
deployed file has: the opset (`DEFAULT_OPSET`), and on a CPU the last resize as matrix products (`enlarge_by_products`).

A runtime that takes its number format from the graph gets a graph in half precision between casts.
"""

import copy
import io
import warnings
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import onnx
import torch
from torch import nn

from fasterseg.runtime.choices import DEFAULT_OPSET
from fasterseg.runtime.enlarging import enlarge_by_products
from latency.runners.base import Runner, Session, Shape


class GraphRunner(Runner):
    """Prepares networks for a runtime that reads ONNX graphs.

    Attributes:
        title: What messages call the runtime.
        precision_is_in_graph: Whether half precision is the graph's; otherwise the runtime is told.
    """

    title: ClassVar[str]
    precision_is_in_graph: ClassVar[bool] = True

    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """See `Runner.prepare`.

        Raises:
            ValueError: The installed runtime lacks the device, or cannot compute in the precision there.
        """
        if self.device == "cpu":
            module = enlarge_by_products(module, input_shape)
        return self.load(self._in_precision(export_graph(module, input_shape)), source="the network")

    def from_onnx_path(self, path: Path) -> Session:
        """See `Runner.from_onnx_path`."""
        if not path.is_file():
            raise FileNotFoundError(f"no ONNX file at {path}; `fasterseg export` writes one")
        try:
            return self.load(self._in_precision(path), source=str(path))
        except self.load_failures() as error:
            raise ValueError(f"{self.title} cannot load {path}: {error}") from error

    @abstractmethod
    def load(self, graph: bytes | Path, *, source: str) -> Session:
        """A session of a graph.

        Args:
            graph: A serialised ONNX model, or the path of one.
            source: What an error message calls it.
        """

    def load_failures(self) -> tuple[type[Exception], ...]:
        """The exceptions by which the runtime refuses a file."""
        return ()

    def _in_precision(self, graph: bytes | Path) -> bytes | Path:
        """The graph, in half precision where that is asked for and has to stand in the graph."""
        if self.precision != "fp16" or not self.precision_is_in_graph:
            return graph
        return half_precision_graph(graph.read_bytes() if isinstance(graph, Path) else graph)


def export_graph(module: nn.Module, input_shape: Shape) -> bytes:
    """The module in evaluation mode as a serialised ONNX model of one input and one output, for timing alone.

    `fasterseg.runtime.export.onnx_bytes` writes what is deployed.

    Args:
        module: Takes one tensor, returns one tensor; it is left as it was.
        input_shape: The fixed (N, C, H, W) of its float32 input.
    """
    buffer: Any = io.BytesIO()
    example = torch.zeros(input_shape)
    traced = copy.deepcopy(module).cpu().eval()
    with warnings.catch_warnings(), torch.no_grad():
        # the exporter warns of itself, and of sizes becoming constants, which is what a fixed input size asks for
        warnings.simplefilter("ignore")
        torch.onnx.export(
            traced,
            (example,),
            buffer,
            dynamo=False,
            opset_version=DEFAULT_OPSET,
            input_names=["input"],
            output_names=["output"],
        )
    data: bytes = buffer.getvalue()
    return data


def half_precision_graph(model: bytes) -> bytes:
    """The model with weights and arithmetic in float16, between a cast of its input and one of its output.

    Args:
        model: A serialised float32 model.

    Raises:
        ValueError: The model is damaged.
    """
    from google.protobuf.message import DecodeError
    from onnxruntime.transformers.float16 import convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    try:
        graph = onnx.load_from_string(model)
    except DecodeError as error:
        raise ValueError(f"the ONNX model is damaged: {error}") from error
    # by default the converter keeps operators in float32 that the networks here have in half precision
    converted = convert_float_to_float16(graph, keep_io_types=True, op_block_list=[], force_fp16_initializers=True)
    # the converter puts its casts last, a valid model has its nodes in the order of execution
    ordered = OnnxModel(converted)
    ordered.topological_sort()
    onnx.checker.check_model(ordered.model, full_check=True)
    data: bytes = ordered.model.SerializeToString()
    return data
