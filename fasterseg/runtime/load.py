"""Loading a deployed model from either of its files: a network checkpoint (`best.pt`) or an exported ONNX file."""

from pathlib import Path
from typing import Literal

import torch

from fasterseg.base.devices import Device
from fasterseg.engine.checkpoint import NetworkCheckpoint, load_network
from fasterseg.engine.devices import set_threads
from fasterseg.networks import Size
from fasterseg.runtime.card import ModelCard, checkpoint_card
from fasterseg.runtime.predictor import OnnxBackend, Predictor

ONNX_SUFFIX = ".onnx"


def load_predictor(
    path: Path, *, input_size: Size | None = None, device: Device = "auto", threads: int | None = None
) -> Predictor:
    """The predictor of a checkpoint or of an exported file.

    Args:
        path: A `best.pt`, or a `.onnx` file that `fasterseg export` wrote.
        input_size: (height, width) that images are resized to; a checkpoint runs at the image's own size when None,
            an exported file has one fixed size.
        device: Device of a checkpoint, see `choose_device`; an exported file runs on the CPU.
        threads: CPU threads; one for each available core when None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another program, or cannot run as asked.
    """
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}, expected at least 1")
    chosen = choose_device(device, path)
    if path.suffix.lower() == ONNX_SUFFIX:
        backend = OnnxBackend(path, threads=threads)
        return Predictor(backend, backend.card.dataset, input_size=input_size)
    checkpoint = load_checkpoint(path)
    set_threads(threads, "--threads")
    return Predictor.from_network(checkpoint.build().to(chosen), checkpoint.dataset, input_size=input_size)


def choose_device(device: Device, path: Path | None = None) -> Literal["cpu", "cuda"]:
    """The device that a model runs on.

    Args:
        device: The requested device; `auto` is CUDA if PyTorch finds a CUDA device.
        path: The model; an exported file runs on the CPU.

    Raises:
        ValueError: There is no such device, or the model cannot run on it.
    """
    exported = path is not None and path.suffix.lower() == ONNX_SUFFIX
    if device == "auto":
        return "cuda" if torch.cuda.is_available() and not exported else "cpu"
    if device == "cuda" and exported:
        raise ValueError(f"{path} runs with ONNX Runtime on the CPU, but device cuda is asked for; use cpu or auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda is asked for, but PyTorch finds no CUDA device; use cpu or auto")
    return device


def load_card(path: Path, *, input_size: Size | None = None) -> ModelCard:
    """The model card of a checkpoint or an exported file.

    Args:
        path: A `best.pt`, or a `.onnx` file that `fasterseg export` wrote.
        input_size: (height, width) that a checkpoint's operations are counted at; the checkpoint's when None.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or of another program, or an exported file is fixed to another size.
    """
    if path.suffix.lower() != ONNX_SUFFIX:
        return checkpoint_card(load_checkpoint(path), input_size=input_size)
    card = OnnxBackend(path).card
    if input_size not in (None, card.input_size):
        raise ValueError(
            f"{path} is fixed to input size {card.input_size[0]}x{card.input_size[1]}, but {input_size} is asked for; "
            "describe the checkpoint instead, or leave --input-size out"
        )
    return card


def load_checkpoint(path: Path) -> NetworkCheckpoint:
    """Reads a network checkpoint whose weights fit its architecture.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is a folder, damaged, no network checkpoint, or its weights are another network's.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name the model file in it, such as {path / 'best.pt'}")
    checkpoint = load_network(path)
    try:
        checkpoint.build()
    except RuntimeError as error:
        raise ValueError(f"{path}: the weights do not fit the architecture stored beside them: {error}") from error
    return checkpoint
