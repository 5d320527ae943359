"""Operator specifications of the baselines: the kinds that searched networks do not have, read off built modules.

Channel counts come from the modules themselves, so a pruned network lists the operators it really runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fasterseg.networks.blocks import Bottleneck, ConvNorm
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.pyramid import PyramidStage, PyramidSum
from fasterseg.networks.resizing import Size, halved, strided
from fasterseg.networks.resnet import ResNet
from fasterseg.networks.specs import ConvNormActSpec, OperatorSpec, ResizeSpec


@dataclass(frozen=True, kw_only=True)
class ConvNormSpec(OperatorSpec):
    """A convolution with batch norm before a sum: the two sides of a cascade feature fusion."""

    kind: ClassVar[str] = "conv_norm"
    out_channels: int
    kernel_size: int
    dilation: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return ConvNorm(self.in_channels, self.out_channels, kernel_size=self.kernel_size, dilation=self.dilation)


@dataclass(frozen=True, kw_only=True)
class BottleneckSpec(OperatorSpec):
    """A residual unit of the backbone; `downsample` is 1 where its shortcut is a convolution, else 0."""

    kind: ClassVar[str] = "bottleneck"
    reduced_channels: int
    spatial_channels: int
    out_channels: int
    stride: int
    dilation: int
    downsample: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return Bottleneck(
            self.in_channels,
            reduced_channels=self.reduced_channels,
            spatial_channels=self.spatial_channels,
            out_channels=self.out_channels,
            stride=self.stride,
            dilation=self.dilation,
            downsample=bool(self.downsample),
        )


@dataclass(frozen=True, kw_only=True)
class MaxPoolSpec(OperatorSpec):
    """The 3×3 max-pool of stride 2 behind the backbone's stem."""

    kind: ClassVar[str] = "max_pool"

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return nn.MaxPool2d(3, stride=2, padding=1)


@dataclass(frozen=True, kw_only=True)
class PyramidSumSpec(OperatorSpec):
    """ICNet's pyramid pooling."""

    kind: ClassVar[str] = "pyramid_sum"

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return PyramidSum()


@dataclass(frozen=True, kw_only=True)
class PyramidStageSpec(OperatorSpec):
    """One stage of PSPNet's pyramid pooling."""

    kind: ClassVar[str] = "pyramid_stage"
    out_channels: int
    bins: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return PyramidStage(self.in_channels, self.out_channels, bins=self.bins)


@dataclass(frozen=True, kw_only=True)
class ClassifierSpec(OperatorSpec):
    """A 1×1 convolution to the classes; `bias` is 1 where it has one, else 0."""

    kind: ClassVar[str] = "classifier"
    num_classes: int
    bias: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return nn.Conv2d(self.in_channels, self.num_classes, 1, bias=bool(self.bias))


def block_spec(block: ConvNormAct, size: Size) -> ConvNormActSpec:
    """The specification of a convolution block that reads a map of (height, width)."""
    conv = block.conv
    assert isinstance(conv, nn.Conv2d)
    return ConvNormActSpec(
        in_channels=conv.in_channels,
        height=size[0],
        width=size[1],
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size[0],
        stride=conv.stride[0],
    )


def chain_specs(blocks: nn.Sequential, size: Size) -> Iterator[ConvNormActSpec]:
    """The specifications of convolution blocks one after another, the first reading a map of (height, width)."""
    for block in blocks:
        assert isinstance(block, ConvNormAct)
        spec = block_spec(block, size)
        yield spec
        size = halved(size) if spec.stride == 2 else size


def conv_norm_spec(block: ConvNorm, size: Size) -> ConvNormSpec:
    """The specification of one side of a fusion that reads a map of (height, width)."""
    conv = block.conv
    return ConvNormSpec(
        in_channels=conv.in_channels,
        height=size[0],
        width=size[1],
        out_channels=conv.out_channels,
        kernel_size=conv.kernel_size[0],
        dilation=conv.dilation[0],
    )


def bottleneck_spec(unit: Bottleneck, size: Size) -> BottleneckSpec:
    """The specification of a residual unit that reads a map of (height, width)."""
    spatial = unit.spatial.conv
    return BottleneckSpec(
        in_channels=unit.reduce.conv.in_channels,
        height=size[0],
        width=size[1],
        reduced_channels=spatial.in_channels,
        spatial_channels=spatial.out_channels,
        out_channels=unit.expand.conv.out_channels,
        stride=spatial.stride[0],
        dilation=spatial.dilation[0],
        downsample=int(unit.downsample is not None),
    )


def pyramid_stage_spec(stage: PyramidStage, size: Size) -> PyramidStageSpec:
    """The specification of a pyramid stage that reads a map of (height, width)."""
    conv = stage.project.conv
    assert isinstance(conv, nn.Conv2d)
    return PyramidStageSpec(
        in_channels=conv.in_channels, height=size[0], width=size[1], out_channels=conv.out_channels, bins=stage.bins
    )


def classifier_spec(classifier: nn.Conv2d, size: Size) -> ClassifierSpec:
    """The specification of a 1×1 classifier that reads a map of (height, width)."""
    return ClassifierSpec(
        in_channels=classifier.in_channels,
        height=size[0],
        width=size[1],
        num_classes=classifier.out_channels,
        bias=int(classifier.bias is not None),
    )


def resize_spec(channels: int, size: Size, out_size: Size) -> ResizeSpec:
    """The specification of a resize from one (height, width) to another."""
    return ResizeSpec(
        in_channels=channels, height=size[0], width=size[1], out_height=out_size[0], out_width=out_size[1]
    )


def resnet_specs(backbone: ResNet, stages: Sequence[str], input_size: Size) -> Iterator[OperatorSpec]:
    """Stem, max-pool and the named stages of a backbone that reads an image of (height, width)."""
    stem = list(chain_specs(backbone.stem, input_size))
    yield from stem
    size = strided(input_size, 2)
    yield MaxPoolSpec(in_channels=stem[-1].out_channels, height=size[0], width=size[1])
    size = halved(size)
    for stage in stages:
        for unit in backbone.get_submodule(stage).children():
            assert isinstance(unit, Bottleneck)
            spec = bottleneck_spec(unit, size)
            yield spec
            size = halved(size) if spec.stride == 2 else size
