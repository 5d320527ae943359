"""From a module to the ONNX graph that is timed, in milliseconds rather than seconds.

A table has hundreds of operators, and the recommended exporter (`dynamo=True`, which writes the files that are
deployed) takes about half a second for each. PyTorch's tracing exporter takes a hundredth of that, and a runtime
turns both graphs into the same one; `tests/latency/test_graphs.py` proves it for every operator.
"""

import copy
import io
import warnings
from typing import Any

import torch
from torch import nn

OPSET_VERSION = 18


def export_graph(module: nn.Module, input_shape: tuple[int, int, int, int]) -> bytes:
    """The module in evaluation mode as a serialised ONNX model of one input and one output.

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
            opset_version=OPSET_VERSION,
            input_names=["input"],
            output_names=["output"],
        )
    data: bytes = buffer.getvalue()
    return data
