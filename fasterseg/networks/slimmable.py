"""The two forms of a layer: plain modules of PyTorch, and slimmable ones that run at several widths.

Operators are written once against a `LayerFactory`; `PLAIN` makes the derived networks' modules, `SlimmableLayers`
the supernet's. A slimmable layer takes the first channels of its weight: as many inputs as arrive, as many outputs as
its `active_out_channels` says; every width has batch norm statistics and an affine of its own.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.channels import make_divisible


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
        weight = self.weight[: self.active_out_channels, : input.shape[1]]
        return functional.conv2d(input, weight, None, self.stride, self.padding)


class SlimmableBatchNorm2d(nn.Module):
    """One `nn.BatchNorm2d` for each channel count that the map can have, chosen by the input's channels."""

    def __init__(self, channel_choices: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({str(count): nn.BatchNorm2d(count) for count in sorted(set(channel_choices))})

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalises (N, C, H, W) with the statistics of C channels.

        Raises:
            KeyError: C is none of the channel choices (an invariant of the supernet, not a user's error).
        """
        normalised: torch.Tensor = self.norms[str(input.shape[1])](input)
        return normalised


class SlimmableLayers:
    """The factory of the supernet: layers that run at each of the given width multipliers.

    Args:
        widths: The width multipliers that a map's channels can be scaled by, 1 among them.
    """

    def __init__(self, widths: Sequence[float]) -> None:
        self.widths = tuple(widths)

    def conv(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Module:
        """See `LayerFactory.conv`."""
        return SlimmableConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride)

    def norm(self, channels: int) -> nn.Module:
        """See `LayerFactory.norm`."""
        return SlimmableBatchNorm2d([make_divisible(channels * width) for width in self.widths])


PLAIN = PlainLayers()
