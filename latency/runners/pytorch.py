"""The PyTorch runner: eager execution on the CPU or on a GPU, where events on the stream stop the time."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from latency.runners.base import Array, Runner, Session, Shape, TimedCall, time_on_host


class PyTorchSession(Session):
    """A module in evaluation mode on its device.

    Args:
        module: The module to run; this session's own.
        input_shape: The (N, C, H, W) of its input.
        device: `cpu` or `cuda`.
        threads: CPU threads of one inference.
    """

    def __init__(self, module: nn.Module, input_shape: Shape, *, device: str, threads: int) -> None:
        self.input_shape = input_shape
        self._module = module.to(device).eval()
        self._device = device
        self._threads = threads
        self._input: torch.Tensor | None = None

    def run(self, image: Array) -> Array:
        """See `Session.run`."""
        with _threads(self._threads), torch.inference_mode():
            output: torch.Tensor = self._module(torch.from_numpy(self.check_input(image)).to(self._device))
        array: Array = output.float().cpu().numpy()
        return array

    def time_calls(self, count: int) -> list[TimedCall]:
        """See `Session.time_calls`."""
        if self._input is None:
            self._input = torch.from_numpy(self.random_input()).to(self._device)
        module, image = self._module, self._input
        with _threads(self._threads), torch.inference_mode():
            if self._device == "cuda":
                return _time_on_stream(module, image, count)
            return time_on_host(lambda: module(image), count)


class PyTorchRunner(Runner):
    """Runs modules with PyTorch itself, eagerly."""

    name = "pytorch"
    package = "torch"

    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """See `Runner.prepare`."""
        return PyTorchSession(copy.deepcopy(module), input_shape, device=self.device, threads=self.threads)

    def from_onnx_path(self, path: Path) -> Session:
        """See `Runner.from_onnx_path`; PyTorch has no way to run an ONNX file."""
        raise ValueError(f"runner pytorch cannot run the ONNX file {path}; set target.runner to onnxruntime")

    def version(self) -> str:
        """See `Runner.version`."""
        return str(torch.__version__)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's thread count for the duration of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_on_stream(module: nn.Module, image: torch.Tensor, count: int) -> list[TimedCall]:
    """Times each call by a pair of events around it, on a stream of its own that is synchronised once, at the end."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    pairs = []
    with torch.cuda.stream(stream):
        for _ in range(count):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            module(image)
            end.record()
            pairs.append((start, end))
    stream.synchronize()
    return [TimedCall(start.elapsed_time(end), undisturbed=True) for start, end in pairs]
