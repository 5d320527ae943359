"""Device memory, streams and events by pycuda, on the CUDA context that PyTorch uses too; for the TensorRT runner.

A CUDA device has one primary context, and PyTorch works in it. A context of pycuda's own, such as `pycuda.autoinit`
makes, would have memory and streams that PyTorch and TensorRT do not see. So the primary context is retained once,
and pushed for as long as pycuda works.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch

from latency.runners.base import Array


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


class DeviceTensor:
    """A float32 tensor on the device with its page-locked twin on the host.

    Args:
        shape: Its shape.
        cleanup: Where the release of both is registered; `primary_context` has to be active when it runs.

    Attributes:
        host: The twin.
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

    def upload(self, stream: "PycudaStream") -> None:
        """Puts the copy from the host to the device on the stream."""
        self._cuda.memcpy_htod_async(self.pointer, self.host, stream.stream)

    def download(self, stream: "PycudaStream") -> None:
        """Puts the copy from the device to the host on the stream."""
        self._cuda.memcpy_dtoh_async(self.host, self.pointer, stream.stream)


class PycudaStream:
    """A stream of pycuda's, never the default one; a `latency.runners.streams.TimingStream`.

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
