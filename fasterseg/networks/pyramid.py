"""Pyramid pooling: averages over a few bins of the map, brought back to its size, as ICNet and PSPNet use it."""

from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.operator_specs import OperatorSpec, input_fields
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.resizing import Size, map_size, resize_bilinear

PYRAMID_BINS = (1, 2, 3, 6)


def average_bins(feature: torch.Tensor, bins: int) -> torch.Tensor:
    """Averages a map over `bins`×`bins` bins of nearly equal size; bins overlap if the map's size is not divisible.

    Shape:
        (N, C, H, W) to (N, C, bins, bins).
    """
    if not (torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()):
        return functional.adaptive_avg_pool2d(feature, bins)
    # exporters write uneven bins as hundreds of gathers, several times slower than these two products
    height, width = (int(side) for side in map_size(feature))  # tracing makes tensors of sizes
    rows, columns = _bin_weights(feature, height, bins), _bin_weights(feature, width, bins)
    return rows @ feature @ columns.T


def _bin_weights(feature: torch.Tensor, length: int, bins: int) -> torch.Tensor:
    """The (bins, length) matrix that averages a line of pixels over its bins, as adaptive pooling lays them out."""
    weights = []
    for index in range(bins):
        start, end = index * length // bins, -(-(index + 1) * length // bins)
        weights.append([1 / (end - start) if start <= position < end else 0.0 for position in range(length)])
    return feature.new_tensor(weights)


class PyramidSum(nn.Module):
    """ICNet's pyramid pooling: the map plus its resized averages over 1, 2, 3 and 6 bins; no parameters.

    Shape:
        (N, C, H, W) to the same.

    Source: ICNet, section 3.2; the sum as in the authors' release.
    """

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Adds the averages to (N, C, H, W)."""
        total = feature
        for bins in PYRAMID_BINS:
            total = total + resize_bilinear(average_bins(feature, bins), map_size(feature))
        return total


@dataclass(frozen=True, kw_only=True)
class PyramidSumSpec(OperatorSpec):
    """ICNet's pyramid pooling."""

    kind: ClassVar[str] = "pyramid_sum"

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return PyramidSum()


class PyramidStage(nn.Module):
    """One stage of PSPNet's pyramid pooling: averages over `bins`, 1×1 convolution, resized to the map's size.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, H, W).

    Source: PSPNet, section 3.2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bins: int) -> None:
        super().__init__()
        self.bins = bins
        self.project = ConvNormAct(in_channels, out_channels, kernel_size=1)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the stage on (N, in_channels, H, W)."""
        projected = self.project(average_bins(feature, self.bins))
        return resize_bilinear(projected, map_size(feature))


@dataclass(frozen=True, kw_only=True)
class PyramidStageSpec(OperatorSpec):
    """One stage of PSPNet's pyramid pooling."""

    kind: ClassVar[str] = "pyramid_stage"
    out_channels: int
    bins: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return PyramidStage(self.in_channels, self.out_channels, bins=self.bins)

    @classmethod
    def of(cls, stage: PyramidStage, size: Size) -> Self:
        """The specification of a stage that reads a map of (height, width)."""
        conv = stage.project.conv
        assert isinstance(conv, nn.Conv2d)
        return cls(**input_fields(conv.in_channels, size), out_channels=conv.out_channels, bins=stage.bins)


class PyramidPooling(nn.Module):
    """PSPNet's pyramid pooling: the map and its four stages, concatenated.

    Shape:
        (N, in_channels, H, W) to (N, in_channels + 4·stage_channels, H, W).

    Source: PSPNet, section 3.2.
    """

    def __init__(self, in_channels: int, stage_channels: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(PyramidStage(in_channels, stage_channels, bins=bins) for bins in PYRAMID_BINS)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the pooling on (N, in_channels, H, W)."""
        return torch.cat([feature, *(stage(feature) for stage in self.stages)], dim=1)
