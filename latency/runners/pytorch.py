"""The PyTorch runner: eager, channels last, as a CUDA graph or compiled; on the CPU or on a CUDA device.

On a CUDA device events on a separate stream take the time (`cuda`). On a CPU the C library is made to keep freed
memory (`keep_freed_memory`). The times of layers are those of PyTorch's profiler (`profile_layers`).
"""

import copy
import ctypes
import dataclasses
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from fasterseg.engine.devices import use_channels_last
from latency.runners.base import (
    PROFILED_RUNS,
    Array,
    Conditions,
    LayerTime,
    Runner,
    Session,
    Shape,
    TimedCall,
    median_layer_times,
    time_on_host,
)
from latency.runners.cuda import TorchStream, time_on_stream

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_WARMUP_RUNS = 3
# of glibc's malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1
_OPERATION_PREFIX = "aten::"
_RUN = "one run of the network"


class PyTorchSession(Session):
    """A module in evaluation mode on its device, with an input tensor that is allocated once.

    Args:
        module: The module to run; no other session may use it.
        input_shape: The (N, C, H, W) of its input.
        runner: Device, threads, precision, mode and TF32.
    """

    def __init__(self, module: nn.Module, input_shape: Shape, *, runner: "PyTorchRunner") -> None:
        self.input_shape = input_shape
        self._threads = runner.threads
        self._tf32 = runner.tf32
        self._mode = runner.mode
        channels_last = runner.mode == "channels_last"
        precise = module if runner.precision == "fp32" else _InPrecision(module, _DTYPES[runner.precision])
        self._module = precise.to(runner.device).eval()
        if channels_last:
            use_channels_last(self._module)
        memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self._input = torch.zeros(input_shape, device=runner.device).contiguous(memory_format=memory_format)
        self._holds_random_input = False
        self._stream = TorchStream() if runner.device == "cuda" else None
        with self._execution():
            self._launch = self._build_launch()

    def run(self, image: Array) -> Array:
        """See `Session.run`."""
        self._holds_random_input = False
        checked = torch.from_numpy(self.check_input(image))
        with self._execution():
            self._input.copy_(checked)
            # the copy is queued on the same stream, so it waits for the work on it
            output = self._launch().cpu()
        # an identity's output is the input that the next run overwrites
        return np.array(output.numpy(), order="C")

    def time_calls(self, count: int) -> list[TimedCall]:
        """See `Session.time_calls`."""
        with self._execution():
            self._fill()
            if self._stream is not None:
                return time_on_stream(self._launch, count, self._stream)
            return time_on_host(self._launch, count)

    def layer_times(self) -> tuple[LayerTime, ...]:
        """See `Session.layer_times`; a CUDA graph's layers are those of the eager run it was captured from.

        Raises:
            ValueError: The session is compiled, which joins layers.
        """
        if self._mode == "compile":
            raise ValueError("torch.compile joins layers, so they have no times of their own; set target.mode to eager")
        with self._execution():
            self._fill()
            for _ in range(_WARMUP_RUNS):
                self._module(self._input)
            runs = profile_layers(self._module, self._input, PROFILED_RUNS)
        return median_layer_times(runs)

    def _fill(self) -> None:
        if not self._holds_random_input:
            self._input.copy_(torch.from_numpy(self.random_input()))
            self._holds_random_input = True

    def _build_launch(self) -> Callable[[], torch.Tensor]:
        """What runs the network on the session's input."""
        module: Callable[[torch.Tensor], torch.Tensor] = self._module
        if self._mode == "compile":
            module = _compiled(self._module, self._input)
        if self._mode != "cuda_graph":
            return lambda: module(self._input)
        assert self._stream is not None
        for _ in range(_WARMUP_RUNS):
            module(self._input)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream.stream):
            output = module(self._input)

        def replay() -> torch.Tensor:
            graph.replay()
            return output

        return replay

    @contextmanager
    def _execution(self) -> Iterator[None]:
        """Threads, stream and settings that the network runs under, for the duration of the block."""
        on_stream = nullcontext() if self._stream is None else torch.cuda.stream(self._stream.stream)
        with _threads(self._threads), _convolution_settings(tf32=self._tf32), torch.inference_mode(), on_stream:
            yield


class PyTorchRunner(Runner):
    """Runs modules with PyTorch itself."""

    name = "pytorch"
    package = "torch"
    install = "pip install torch (for a GPU: see https://pytorch.org/get-started)"
    runs_files = False

    def prepare(self, module: nn.Module, input_shape: Shape) -> Session:
        """See `Runner.prepare`."""
        keep_freed_memory()
        return PyTorchSession(copy.deepcopy(module), input_shape, runner=self)

    def from_onnx_path(self, path: Path) -> Session:
        """See `Runner.from_onnx_path`; PyTorch has no way to run an ONNX file."""
        raise ValueError(f"runner pytorch cannot run the ONNX file {path}; set target.runner to onnxruntime")

    def version(self) -> str:
        """See `Runner.version`."""
        return str(torch.__version__)

    def conditions(self) -> Conditions:
        """See `Runner.conditions`; on a CPU with the allocator, which takes part of the time."""
        conditions = super().conditions()
        if self.device != "cpu":
            return conditions
        return dataclasses.replace(conditions, versions={**conditions.versions, "malloc": keep_freed_memory()})


class _InPrecision(nn.Module):
    """A module that computes in another number format, between casts: float32 in, float32 out."""

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.module = module.to(dtype)
        self.dtype = dtype

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.module(image.to(self.dtype))
        return output.float()


def _compiled(module: nn.Module, image: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The module compiled for one input shape.

    An exported module has code of its own. Modules of one class share theirs, and PyTorch compiles one piece of code a
    few times only before it gives up, while a table has hundreds of modules of the same classes.
    """
    exported = torch.export.export(module, (image,)).module()
    compiled: Callable[[torch.Tensor], torch.Tensor] = torch.compile(exported, fullgraph=True, dynamic=False)
    compiled(image)
    return compiled


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """PyTorch's thread count for the duration of the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _convolution_settings(*, tf32: bool) -> Iterator[None]:
    """The choice of TF32 by cuDNN, and its search for the fastest kernel, for the duration of the block."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, cudnn.benchmark = tf32, True
    try:
        yield
    finally:
        cudnn.allow_tf32, cudnn.benchmark = before


@cache
def keep_freed_memory() -> str:
    """Makes glibc keep what is freed until the process ends; another C library stays as it is.

    PyTorch allocates every map anew. glibc returns the memory of a large freed map to the system, and the next
    allocation fetches it page by page: at 512×1024 that was 26,000 page faults and 40 of 310 ms. glibc also decides by
    what the process allocated before, so the same operator costs more or less in a network than alone, which spoils a
    table. ONNX Runtime and OpenVINO manage their own memory and have neither problem.

    The first calls still fetch memory. Aligning a map cuts off small pieces; glibc caches them, and joins them to their
    neighbours only when those caches are full.

    Returns:
        The allocator and whether it keeps memory, to be recorded beside times.
    """
    library, version = platform.libc_ver()
    if library != "glibc":
        return f"that of {platform.system()}"
    mallopt = ctypes.CDLL(None).mallopt
    kept = mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, _NEVER)
    return f"glibc {version}, {'keeps' if kept else 'returns'} freed memory"


def profile_layers(module: nn.Module, image: torch.Tensor, count: int) -> list[list[LayerTime]]:
    """For each of `count` profiled runs the time of each leaf module, and of each operation that stands outside of one.

    On a CUDA device the times are those of the kernels.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if image.is_cuda else [])]
    with _named_leaves(module) as kinds:
        with profile(activities=activities) as profiler:
            for _ in range(count):
                with record_function(_RUN):
                    module(image)
            if image.is_cuda:
                torch.cuda.synchronize()
        events: Any = profiler.events()
    # a CUDA device lists the range a second time among its events
    runs = [event for event in events if event.name == _RUN and event.device_type.name == "CPU"]
    return [_layers(run.cpu_children, kinds, on_gpu=image.is_cuda) for run in runs]


def _layers(events: Iterable[Any], kinds: Mapping[str, str], *, on_gpu: bool) -> list[LayerTime]:
    """The layers of one run from the events directly below it."""
    seen: Counter[str] = Counter()
    layers = []
    for event in sorted(events, key=lambda event: event.time_range.start):
        name = kind = str(event.name)
        if name in kinds:
            kind = kinds[name]
        elif name.startswith(_OPERATION_PREFIX):
            # an operation has no name but its kind
            seen[name] += 1
            name = f"{name.removeprefix(_OPERATION_PREFIX)}_{seen[name]}"
        else:
            continue
        duration_us = event.device_time_total if on_gpu else event.cpu_time_total
        layers.append(LayerTime(name, kind, duration_us / 1e3))
    return layers


@contextmanager
def _named_leaves(module: nn.Module) -> Iterator[dict[str, str]]:
    """Lets every leaf module announce itself to the profiler; yields the leaves' kinds by name."""
    kinds: dict[str, str] = {}
    handles = []
    running: list[Any] = []

    def leave(_module: nn.Module, _inputs: object, _output: object) -> None:
        running.pop().__exit__(None, None, None)

    def enter_as(name: str) -> Any:
        def enter(_module: nn.Module, _inputs: object) -> None:
            running.append(record_function(name))
            running[-1].__enter__()

        return enter

    try:
        for name, leaf in module.named_modules():
            if next(leaf.children(), None) is None:
                kinds[name] = type(leaf).__name__
                handles += [leaf.register_forward_pre_hook(enter_as(name)), leaf.register_forward_hook(leave)]
        yield kinds
    finally:
        for handle in handles:
            handle.remove()
