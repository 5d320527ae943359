"""The two forms of a layer: plain modules of PyTorch, and slimmable ones that run at several widths.

Operators are written once against a `LayerFactory`; `PLAIN` makes the derived networks' modules, `SlimmableLayers`
the supernet's. A slimmable convolution uses the first channels of its weight: the input's number of input channels, and
`active_out_channels` output channels. Batch norms have separate statistics and affine parameters for every width.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.channels import make_divisible
from fasterseg.networks.slimmable_cpu import convolve_on_cpu

# a batch norm of one process, or one synchronised over several
BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm


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
    """A convolution that runs on the first channels of its weight.

    Args:
        in_channels: Channels of the widest input.
        out_channels: Channels of the widest output.
        kernel_size: Height and width of the kernel.
        stride: 1 or 2.
        in_place: Whether gradients may be added to `weight.grad` in place on a CPU (`slimmable_cpu`): the same values
            in less time.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, in_place: bool = True
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self.active_out_channels = out_channels
        self.in_place = in_place

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolves (N, C, H, W) for any C up to `in_channels` into `active_out_channels` channels."""
        out_channels = self.active_out_channels
        if self.in_place and input.device.type == "cpu" and not torch.compiler.is_compiling():
            return convolve_on_cpu(input, self.weight, out_channels, stride=self.stride, padding=self.padding)
        weight = self.weight[:out_channels, : input.shape[1]]
        return functional.conv2d(input, weight, None, self.stride, self.padding)


class SlimmableBatchNorm2d(nn.Module):
    """One `nn.BatchNorm2d` for each channel count that the map can have, chosen by the input's channels.

    Args:
        channel_choices: The channel counts.
        batch_parts: Number of equal parts of a training batch; each is normalised by its own batch statistics. A cell's
            operators compute the maps of its parents as one such batch.
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
