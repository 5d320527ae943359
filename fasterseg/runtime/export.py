"""Export to ONNX: image in, logits at the image's size out, one file that carries its model card.

`onnx_bytes` turns any module into an ONNX model: a single operator or a whole network. A checkpoint's export is written
only if its logits agree with PyTorch's.

`export_graph` of `latency/runners/graphs.py` is a second, much faster exporter, for operators that are only timed. The
opset and the last resize must stay equal in both, so that a table's times are those of deployed files.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from fasterseg.base.files import check_writable, file_digest, replacing
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import DeployedNetwork, Size
from fasterseg.runtime.card import METADATA_KEY, checkpoint_card
from fasterseg.runtime.choices import DEFAULT_OPSET, LastResize
from fasterseg.runtime.enlarging import enlarge_by_products
from fasterseg.runtime.load import load_checkpoint
from fasterseg.runtime.onnx_session import OnnxSession

OPSETS = range(18, 24)
INPUT_NAME = "image"
OUTPUT_NAME = "logits"
PARITY_TOLERANCE = 1e-4
_PARITY_SEED = 0
_MAX_PROTOBUF_BYTES = 2**31 - 1


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how well it agrees with PyTorch.

    Attributes:
        path: The ONNX file.
        input_size: (height, width) of the file's input.
        opset: Version of the ONNX operator set.
        relative_difference: ‖ONNX - PyTorch‖ / ‖PyTorch‖ of the logits of a random image.
        size_bytes: Size of the file.
    """

    path: Path
    input_size: Size
    opset: int
    relative_difference: float
    size_bytes: int


def export_checkpoint(
    checkpoint_path: Path,
    path: Path,
    *,
    input_size: Size | None = None,
    opset: int = DEFAULT_OPSET,
    last_resize: LastResize = "products",
    overwrite: bool = False,
) -> ExportReport:
    """Exports a network checkpoint file; see `export_onnx`. The checkpoint's hash is added to the card's origins."""
    checkpoint = load_checkpoint(checkpoint_path)
    origins = {"checkpoint": file_digest(checkpoint_path)}
    return export_onnx(
        checkpoint,
        path,
        input_size=input_size,
        opset=opset,
        last_resize=last_resize,
        origins=origins,
        overwrite=overwrite,
    )


def export_onnx(
    checkpoint: NetworkCheckpoint,
    path: Path,
    *,
    input_size: Size | None = None,
    opset: int = DEFAULT_OPSET,
    last_resize: LastResize = "products",
    origins: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Exports a trained network as one ONNX file and checks its logits against PyTorch's.

    Args:
        checkpoint: The trained network.
        path: The file to write, through a temporary name.
        input_size: (height, width) the file is fixed to; the checkpoint's own when None.
        opset: Version of the ONNX operator set.
        last_resize: The resize to the image's size: `products` for matrix products, which are faster on CPU runtimes,
            or `node` for ONNX's Resize, for GPU runtimes.
        origins: Hashes to add to the model card's origins, by role.
        overwrite: Whether an existing file may be replaced.

    Shape:
        The file maps `image`, normalised RGB (1, 3, H, W) float32, to `logits` (1, num_classes, H, W) float32.

    Raises:
        ValueError: The file exists, the input size or opset is invalid, or the logits differ by more than
            `PARITY_TOLERANCE`; nothing is written then.
        OSError: The file cannot be written; this is checked before the export.
    """
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already; choose another file, or pass --overwrite to replace it")
    check_writable(path)
    card = checkpoint_card(checkpoint, input_size=_checked_size(input_size), origins=origins)
    network = DeployedNetwork(checkpoint.build()).eval()
    shape = (1, 3, *card.input_size)
    exported = enlarge_by_products(network, shape) if last_resize == "products" else network
    data = onnx_bytes(exported, shape, opset=opset, metadata={METADATA_KEY: card.to_json()})
    difference = logits_difference(network, data, shape)
    if not difference <= PARITY_TOLERANCE:  # a NaN is refused, too
        raise ValueError(
            f"the exported logits differ from PyTorch's by {difference:.1e} (relative), more than "
            f"{PARITY_TOLERANCE:.0e}; {path} was not written: check the weights for non-finite values, or try "
            "another opset"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return ExportReport(path, card.input_size, opset, difference, len(data))


def onnx_bytes(
    module: nn.Module,
    input_shape: tuple[int, int, int, int],
    *,
    opset: int = DEFAULT_OPSET,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """A module of one input and one output as a serialised ONNX model with static shapes and its weights.

    Constants are folded, and batch norms into the convolutions before them. A convolution that runs twice, as those of
    ICNet's backbone do, keeps its batch norms in the file; ONNX Runtime folds them when it loads it.

    Args:
        module: The module, in evaluation mode, on the CPU.
        input_shape: (N, C, H, W) of its input.
        opset: Version of the ONNX operator set.
        metadata: The model's `metadata_props`.

    Raises:
        ValueError: The module is in training mode, the opset is not supported, or the model exceeds the 2 GiB of a
            single ONNX file.
    """
    if module.training:
        raise ValueError("the module to export is in training mode; call its eval() first")
    if opset not in OPSETS:
        raise ValueError(f"opset {opset} is not supported; use {OPSETS.start} to {OPSETS.stop - 1}")
    example = torch.zeros(input_shape, dtype=next((p.dtype for p in module.parameters()), torch.float32))
    with _quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            verbose=False,
            opset_version=opset,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )
    assert program is not None
    model = program.model_proto
    _strip_trace(model)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    if model.ByteSize() > _MAX_PROTOBUF_BYTES:
        raise ValueError(f"the model takes {model.ByteSize()} bytes, more than one ONNX file holds (2 GiB)")
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def logits_difference(module: nn.Module, data: bytes, input_shape: tuple[int, int, int, int]) -> float:
    """‖ONNX Runtime - PyTorch‖ / ‖PyTorch‖ of the outputs for one random standard normal input."""
    image = torch.randn(input_shape, generator=torch.Generator().manual_seed(_PARITY_SEED))
    with torch.inference_mode():
        expected = module(image).numpy().astype(np.float64)
    found = OnnxSession(data, source="the exported model").run(image.numpy())
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def _checked_size(size: Size | None) -> Size | None:
    if size is not None and min(size) < 1:
        raise ValueError(f"input_size is {size[0]}x{size[1]}, expected a height and width of at least 1")
    return size


def _strip_trace(model: onnx.ModelProto) -> None:
    """Drops the exporter's metadata: it holds source paths of this machine, and no runtime reads it."""
    graph = model.graph
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silences the exporter's warnings about missing packages and its own deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
