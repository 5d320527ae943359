"""The two forms of a layer: plain modules of PyTorch, and slimmable ones that run at several widths.

Operators are written once against a `LayerFactory`; `PLAIN` makes the derived networks' modules, `SlimmableLayers`
the supernet's. A slimmable layer takes the first channels of its weight: as many inputs as arrive, as many outputs as
its `active_out_channels` says; every width has batch norm statistics and an affine of its own.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

CHANNEL_DIVISOR = 8
# from how many weights on, and up to how many output pixels in all, a weight's gradient is a matrix product on a CPU:
# on a Xeon with 2 MiB of cache a core it then takes 0.3 to 0.45 of the time at 32 pixels and 0.85 to 0.95 at 128
_PRODUCT_MIN_WEIGHTS, _PRODUCT_MAX_PIXELS = 400_000, 128

# a batch norm of one process, or one that spans several
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


def make_divisible(channels: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """Rounds a channel count to a multiple of `divisor`, never below 90 % of what was asked for.

    Source: slimmable networks (Yu et al., ICLR 2019), which took it from MobileNet.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def cell_channels(output_stride: int, base_channels: int, width: float) -> int:
    """Channels of a cell's map: `output_stride * base_channels` at width 1, a multiple of 8 at every width."""
    return make_divisible(output_stride * base_channels * width)


def fusion_channels(scale: int, base_channels: int, width: float) -> int:
    """Channels of the stem's and the fusion's maps, which round plainly: `scale * base_channels * width`."""
    return max(1, math.floor(scale * base_channels * width + 0.5))


class LayerFactory(Protocol):
    """Makes the convolutions and normalisations that an operator is composed of."""

    def conv(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Module:
        """A convolution without bias, padded so that stride 1 keeps the map's size."""
        ...

    def norm(self, channels: int) -> nn.Module:
        """A batch norm over `channels` channels."""
        ...


class PlainLayers:
    """The factory of derived networks: `nn.Conv2d` and `nn.BatchNorm2d`, nothing else."""

    def conv(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Module:
        """See `LayerFactory.conv`."""
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)

    def norm(self, channels: int) -> nn.Module:
        """See `LayerFactory.norm`."""
        return nn.BatchNorm2d(channels)


class SlimmableConv2d(nn.Conv2d):
    """A convolution that runs on the first channels of its weight."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.active_out_channels = out_channels

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolves (N, C, H, W) for any C up to `in_channels` into `active_out_channels` channels."""
        weight = self.weight
        if self._gradient_by_product(input):
            output: torch.Tensor = _GradientByProduct.apply(  # type: ignore[no-untyped-call]
                input, weight, self.active_out_channels, self.stride, self.padding
            )
            return output
        if (self.active_out_channels, input.shape[1]) != weight.shape[:2]:
            weight = _first_channels(weight, self.active_out_channels, input.shape[1])
        if self.kernel_size == (1, 1) and self.stride == (2, 2):
            # the pixels it reads, a quarter of them, instead of a copy of all of a shifted map
            return functional.conv2d(input[:, :, ::2, ::2], weight)
        return functional.conv2d(input, weight, None, self.stride, self.padding)

    def _gradient_by_product(self, input: torch.Tensor) -> bool:
        """Whether `_GradientByProduct` is the faster way: on a CPU, many weights that few pixels use."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad and input.device.type == "cpu"):
            return False
        out_pixels = input[:, 0].numel() // (self.stride[0] * self.stride[1])
        weights = self.active_out_channels * input.shape[1] * self.kernel_size[0] * self.kernel_size[1]
        small = out_pixels <= _PRODUCT_MAX_PIXELS and weights >= _PRODUCT_MIN_WEIGHTS
        return small and not torch.is_autocast_enabled("cpu")


class _GradientByProduct(torch.autograd.Function):
    """A convolution with the first channels of a weight, whose gradient a matrix product adds to that of the weight.

    The library's own gradient is a tensor of its own in a layout of its own: with more weights than pixels, making it
    costs more than the arithmetic. Like that of `_FirstChannels` the gradient goes straight into `weight.grad`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        input: torch.Tensor,
        weight: torch.Tensor,
        out_channels: int,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> torch.Tensor:
        ctx.save_for_backward(input)
        ctx.weight, ctx.out_channels, ctx.stride, ctx.padding = weight, out_channels, stride, padding
        return functional.conv2d(input, weight[:out_channels, : input.shape[1]], None, stride, padding)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None, None]:
        (input,) = ctx.saved_tensors
        weight, out_channels, stride, padding = ctx.weight, ctx.out_channels, ctx.stride, ctx.padding
        of_input = None
        if ctx.needs_input_grad[0]:
            part = weight[:out_channels, : input.shape[1]]
            of_input = torch.ops.aten.convolution_backward(
                gradient, input, part, None, stride, padding, (1, 1), False, (0, 0), 1, [True, False, False]
            )[0]
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        patches = functional.unfold(input, weight.shape[2:], padding=padding, stride=stride).transpose(1, 2)
        patches = patches.reshape(-1, patches.shape[2])
        outer = gradient.transpose(0, 1).reshape(out_channels, -1)
        weight.grad.view(len(weight), -1)[:out_channels, : patches.shape[1]].addmm_(outer, patches)
        return of_input, None, None, None, None


class _FirstChannels(torch.autograd.Function):
    """The first channels of a weight; the gradient is added to that part of the weight's own.

    Plain slicing gives a gradient of the whole weight that is zero elsewhere, and adds all of it: for narrow passes
    that costs more than the convolution. The gradient goes straight into `weight.grad`, so `torch.autograd.grad` does
    not see it.
    """

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, out_channels: int, in_channels: int) -> torch.Tensor:
        ctx.weight = weight
        return weight[:out_channels, :in_channels]

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None, None]:
        weight = ctx.weight
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad[: gradient.shape[0], : gradient.shape[1]] += gradient
        return None, None, None


def _first_channels(weight: torch.Tensor, out_channels: int, in_channels: int) -> torch.Tensor:
    """See `_FirstChannels`."""
    part: torch.Tensor = _FirstChannels.apply(weight, out_channels, in_channels)  # type: ignore[no-untyped-call]
    return part


class SlimmableBatchNorm2d(nn.Module):
    """One `nn.BatchNorm2d` for each channel count that the map can have, chosen by the input's channels.

    Args:
        channel_choices: The channel counts.
        batch_parts: How many equal parts a training batch consists of that have statistics of their own, as if each
            were a batch; what a cell's parents put out goes through its operators side by side.
    """

    def __init__(self, channel_choices: Sequence[int], *, batch_parts: int = 1) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({str(count): nn.BatchNorm2d(count) for count in sorted(set(channel_choices))})
        self.batch_parts = batch_parts

    def of(self, feature: torch.Tensor) -> BatchNorm:
        """The batch norm of a map's channels, (N, C, H, W).

        Raises:
            KeyError: C is none of the channel choices (an invariant of the supernet, not a user's error).
        """
        norm = self.norms[str(feature.shape[1])]
        assert isinstance(norm, BatchNorm)
        return norm

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (N, C, H, W) with the statistics of C channels."""
        norm = self.of(input)
        if self.batch_parts == 1 or not self.training:
            normalised: torch.Tensor = norm(input)
            return normalised
        return torch.cat([norm(part) for part in input.chunk(self.batch_parts)])


class SlimmableLayers:
    """The factory of the supernet: layers that run at each of the given width multipliers.

    Args:
        widths: The width multipliers that a map's channels can be scaled by, 1 among them.
        batch_parts: See `SlimmableBatchNorm2d`.
    """

    def __init__(self, widths: Sequence[float], *, batch_parts: int = 1) -> None:
        self.widths = tuple(widths)
        self.batch_parts = batch_parts

    def conv(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Module:
        """See `LayerFactory.conv`."""
        return SlimmableConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride)

    def norm(self, channels: int) -> nn.Module:
        """See `LayerFactory.norm`."""
        choices = [make_divisible(channels * width) for width in self.widths]
        return SlimmableBatchNorm2d(choices, batch_parts=self.batch_parts)


PLAIN = PlainLayers()
