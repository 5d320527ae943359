"""CUDA devices: streams whose events take the time, device memory, and the clocks recorded beside a time.

The host would stop its clock before the device has done the work. So a run is timed by an event before and after it,
with one synchronisation at the end: events are part of the stream and see the work only. A `TimingStream` is PyTorch's
(`TorchStream`), or pycuda's for TensorRT (`PycudaStream`), which brings no tensors or streams.

pycuda works in the CUDA context that PyTorch uses too. A CUDA device has one primary context, and PyTorch works in it.
A second context, such as `pycuda.autoinit` makes, would have memory and streams that PyTorch and TensorRT do not see.
So the primary context is retained once, and pushed for as long as pycuda works.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch

from latency.runners.base import Array, TimedCall

Event = TypeVar("Event")
_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem")
_NVIDIA_SMI_TIMEOUT_S = 10


class TimingStream(Protocol[Event]):
    """A stream, other than the default one, whose events tell when its work was done."""

    def create_event(self) -> Event:
        """An event of the device, ready to be recorded."""
        ...

    def record(self, event: Event) -> None:
        """Puts the event on the stream."""
        ...

    def synchronize(self) -> None:
        """Waits for all work on the stream."""
        ...

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Milliseconds between two events that have happened."""
        ...


def time_on_stream(launch: Callable[[], object], count: int, stream: TimingStream[Event]) -> list[TimedCall]:
    """Times `count` launches on a stream, each by the events around it.

    Args:
        launch: Puts one run on that stream and does not wait for it.
        count: How many runs.
        stream: The stream.
    """
    # created beforehand: the device would wait for the host to do it
    pairs = [(stream.create_event(), stream.create_event()) for _ in range(count)]
    for start, end in pairs:
        stream.record(start)
        launch()
        stream.record(end)
    stream.synchronize()
    return [TimedCall(stream.elapsed_ms(start, end), undisturbed=True) for start, end in pairs]


class TorchStream:
    """A new stream of PyTorch, for runners that work on PyTorch's tensors.

    Attributes:
        stream: The stream.
    """

    def __init__(self) -> None:
        self.stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        # weights and inputs were copied to the device on the current stream
        self.stream.wait_stream(torch.cuda.current_stream())

    def create_event(self) -> torch.cuda.Event:
        """See `TimingStream`."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        # PyTorch creates the device's event when it is recorded for the first time
        event.record(self.stream)
        return event

    def record(self, event: torch.cuda.Event) -> None:
        """See `TimingStream`."""
        event.record(self.stream)

    def synchronize(self) -> None:
        """See `TimingStream`."""
        self.stream.synchronize()

    def elapsed_ms(self, start: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See `TimingStream`."""
        return float(start.elapsed_time(end))


@cache
def retained_context(device_index: int) -> Any:
    """PyTorch's context of a device as an object of pycuda, retained until the process ends."""
    import pycuda.driver as cuda

    # PyTorch first: it sets the primary context up as it needs it
    torch.cuda.init()  # type: ignore[no-untyped-call]
    cuda.init()
    return cuda.Device(device_index).retain_primary_context()


@contextmanager
def primary_context() -> Iterator[None]:
    """Makes PyTorch's context of its current device pycuda's current one for the duration of the block."""
    context = retained_context(torch.cuda.current_device())
    context.push()
    try:
        yield
    finally:
        context.pop()


class PycudaStream:
    """A new stream of pycuda; a `TimingStream`.

    Args:
        cleanup: Where the release is registered; `primary_context` has to be active when it runs.

    Attributes:
        stream: The stream; None after its release.
        handle: Its address, for TensorRT.
    """

    def __init__(self, *, cleanup: ExitStack) -> None:
        import pycuda.driver as cuda

        self._cuda = cuda
        self.stream: Any = cuda.Stream()
        self.handle = int(self.stream.handle)
        cleanup.callback(self._release)

    def create_event(self) -> Any:
        """See `TimingStream`."""
        return self._cuda.Event()

    def record(self, event: Any) -> None:
        """See `TimingStream`."""
        event.record(self.stream)

    def synchronize(self) -> None:
        """See `TimingStream`."""
        self.stream.synchronize()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """See `TimingStream`."""
        return float(end.time_since(start))

    def _release(self) -> None:
        # pycuda destroys a stream with its object
        self.stream = None


class DeviceTensor:
    """A float32 tensor on the device with a page-locked copy on the host.

    Args:
        shape: Its shape.
        cleanup: Where the release of both is registered; `primary_context` has to be active when it runs.

    Attributes:
        host: The copy on the host.
        pointer: The address on the device.

    Raises:
        ValueError: There is too little memory left.
    """

    def __init__(self, shape: tuple[int, ...], *, cleanup: ExitStack) -> None:
        import pycuda.driver as cuda

        self._cuda = cuda
        try:
            self.host: Array = cuda.pagelocked_empty(shape, np.float32)
            # the array keeps its memory; the memory itself is what can be freed
            allocation: Any = self.host.base
            cleanup.callback(allocation.free)
            self._device = cuda.mem_alloc(self.host.nbytes)
            cleanup.callback(self._device.free)
        except cuda.MemoryError as error:
            raise ValueError(
                f"too little memory for a tensor of shape {shape} on host and device ({error}); close other programs "
                "on the GPU, or measure fewer networks at a time with latency.interleave"
            ) from error
        self.pointer = int(self._device)

    def upload(self, stream: PycudaStream) -> None:
        """Puts the copy from the host to the device on the stream."""
        self._cuda.memcpy_htod_async(self.pointer, self.host, stream.stream)

    def download(self, stream: PycudaStream) -> None:
        """Puts the copy from the device to the host on the stream."""
        self._cuda.memcpy_dtoh_async(self.host, self.pointer, stream.stream)


def read_clocks_mhz() -> dict[str, int]:
    """Present and highest clocks of PyTorch's present device, by nvidia-smi's names, in MHz.

    They are read, never set. Empty where there is no such device, or nvidia-smi is absent or cannot tell.
    """
    program = shutil.which("nvidia-smi")
    if program is None or not torch.cuda.is_available():
        return {}
    command = [
        program,
        f"--id={_device_id()}",
        f"--query-gpu={','.join(_CLOCKS)}",
        "--format=csv,noheader,nounits",
    ]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S, check=True
        ).stdout
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return {}
    values = [value.strip() for value in answer.split(",")]
    # a clock that a device does not tell is "[N/A]"
    return {name: int(value) for name, value in zip(_CLOCKS, values, strict=False) if value.isdigit()}


def _device_id() -> str:
    """nvidia-smi's name of PyTorch's present device; CUDA_VISIBLE_DEVICES and CUDA's own order mean nothing to it."""
    return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
