"""Counts the convolution work of a piece of code, and measures the most a machine can do: the benchmarks' floor."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

_CONVOLUTIONS = (torch.ops.aten.convolution, torch.ops.aten.convolution_backward)
# what the gradient of a large weight is made by (`fasterseg.networks.slimmable_cpu`)
_PRODUCT = torch.ops.aten.addmm_.default
# images, channels, height and width of the maps that a 3x3 convolution is timed on; the channels stay
_LARGE = ((8, 256, 64, 64), (4, 512, 32, 64), (2, 128, 128, 256))


class ConvolutionCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the convolutions that run in a block, in the thread that entered it.

    A matrix product that is added in place counts as the gradient of a weight.

    Attributes:
        calls: Convolutions called forward.
        flops: Floating-point operations of their forward and backward passes, two for a multiply-accumulate.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.flops = 0

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload[Any, Any],
        types: Sequence[type],  # noqa: ARG002 - the hook's
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """See `TorchDispatchMode`."""
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in _CONVOLUTIONS:
            self.calls += func.overloadpacket is _CONVOLUTIONS[0]
            self.flops += int(flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result))
        elif func is _PRODUCT:
            self.flops += 2 * args[1].numel() * args[2].shape[1]
        return result


def best_convolution_flops_per_s(
    device: torch.device, dtype: torch.dtype, *, synchronize: Callable[[], None], repeats: int = 5
) -> float:
    """The most floating-point operations in a second that a large 3x3 convolution reaches.

    Args:
        device: Where it runs.
        dtype: Its number format.
        synchronize: Waits for the device.
        repeats: How often each size and memory layout is timed; the fastest counts.
    """
    best = 0.0
    for batch, channels, height, width in _LARGE:
        flops = 2 * 9 * channels**2 * batch * height * width
        weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
        for layout in (torch.contiguous_format, torch.channels_last):
            image = torch.randn(batch, channels, height, width, device=device, dtype=dtype)
            image, kernel = image.contiguous(memory_format=layout), weight.contiguous(memory_format=layout)
            for number in range(repeats + 1):
                start = time.perf_counter()
                functional.conv2d(image, kernel, padding=1)
                synchronize()
                if number:  # the first one chooses its algorithm
                    best = max(best, flops / (time.perf_counter() - start))
    return best
