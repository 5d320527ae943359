"""ResNet50 as the backbone of ICNet and PSPNet: two stems, dilated last stages, output stride 8.

Only `resnet_channels` defines the channel counts of a width. All layers are plain `nn.Conv2d` and `nn.BatchNorm2d`, so
that filters can be pruned. Specifications are read off the layers, so that a pruned network lists its actual operators.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Self

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.channels import StemKind, make_divisible
from fasterseg.networks.operator_specs import OperatorSpec, chain_specs, input_fields
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.resizing import Size, halved, strided

STAGES = ("layer1", "layer2", "layer3", "layer4")
STAGE_BLOCKS = (3, 4, 6, 3)
STAGE_STRIDES = (1, 2, 1, 1)
_STEM_CHANNELS: dict[StemKind, tuple[int, ...]] = {"deep": (64, 64, 128), "plain": (64,)}
_REDUCED_CHANNELS = (64, 128, 256, 512)
_OUT_CHANNELS = (256, 512, 1024, 2048)

Dilations = tuple[tuple[int, ...], tuple[int, ...]]


class ResNetChannels(NamedTuple):
    """Channel counts of a backbone.

    Attributes:
        stem: After each convolution of the stem.
        reduced: Inside the bottlenecks of each stage.
        out: After each stage.
    """

    stem: tuple[int, ...]
    reduced: tuple[int, ...]
    out: tuple[int, ...]


def scaled_channels(channels: tuple[int, ...], width_factor: float) -> tuple[int, ...]:
    """Channel counts at a width factor, each a multiple of 8."""
    return tuple(make_divisible(count * width_factor) for count in channels)


def resnet_channels(stem: StemKind, width_factor: float) -> ResNetChannels:
    """The channel counts of a ResNet50 with the given stem at a width factor."""
    return ResNetChannels(
        stem=scaled_channels(_STEM_CHANNELS[stem], width_factor),
        reduced=scaled_channels(_REDUCED_CHANNELS, width_factor),
        out=scaled_channels(_OUT_CHANNELS, width_factor),
    )


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm, without activation; used before an addition.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation * (kernel_size // 2)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the block on (N, in_channels, H, W)."""
        output: torch.Tensor = self.norm(self.conv(feature))
        return output


@dataclass(frozen=True, kw_only=True)
class ConvNormSpec(OperatorSpec):
    """A convolution with batch norm before an addition: the two sides of a cascade feature fusion."""

    kind: ClassVar[str] = "conv_norm"
    out_channels: int
    kernel_size: int
    dilation: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return ConvNorm(self.in_channels, self.out_channels, kernel_size=self.kernel_size, dilation=self.dilation)

    @classmethod
    def of(cls, block: ConvNorm, size: Size) -> Self:
        """The specification of a block that reads a map of (height, width)."""
        conv = block.conv
        return cls(
            **input_fields(conv.in_channels, size),
            out_channels=conv.out_channels,
            kernel_size=conv.kernel_size[0],
            dilation=conv.dilation[0],
        )


class Bottleneck(nn.Module):
    """A residual unit: 1×1 to fewer channels, 3×3 with stride and dilation, 1×1 to the output, added to the input.

    Args:
        in_channels: Channels of the input.
        reduced_channels: Channels between the first 1×1 and the 3×3 convolution.
        spatial_channels: Channels between the 3×3 and the last 1×1 convolution; a pruned unit's may differ.
        out_channels: Channels of the output.
        stride: Stride of the 3×3 convolution and of the shortcut.
        dilation: Dilation of the 3×3 convolution.
        downsample: Whether the shortcut is a 1×1 convolution with batch norm instead of the identity.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Source: He et al., CVPR 2016, figure 5; the stride stands in the 3×3 convolution as in torchvision.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduced_channels: int,
        spatial_channels: int,
        out_channels: int,
        stride: int = 1,
        dilation: int = 1,
        downsample: bool = False,
    ) -> None:
        super().__init__()
        self.reduce = ConvNorm(in_channels, reduced_channels, kernel_size=1)
        self.spatial = ConvNorm(reduced_channels, spatial_channels, kernel_size=3, stride=stride, dilation=dilation)
        self.expand = ConvNorm(spatial_channels, out_channels, kernel_size=1)
        self.downsample = ConvNorm(in_channels, out_channels, kernel_size=1, stride=stride) if downsample else None

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the unit on (N, in_channels, H, W)."""
        shortcut = feature if self.downsample is None else self.downsample(feature)
        hidden = functional.relu(self.spatial(functional.relu(self.reduce(feature))))
        return functional.relu(self.expand(hidden) + shortcut)


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

    @classmethod
    def of(cls, unit: Bottleneck, size: Size) -> Self:
        """The specification of a unit that reads a map of (height, width)."""
        spatial = unit.spatial.conv
        return cls(
            **input_fields(unit.reduce.conv.in_channels, size),
            reduced_channels=spatial.in_channels,
            spatial_channels=spatial.out_channels,
            out_channels=unit.expand.conv.out_channels,
            stride=spatial.stride[0],
            dilation=spatial.dilation[0],
            downsample=int(unit.downsample is not None),
        )


@dataclass(frozen=True, kw_only=True)
class MaxPoolSpec(OperatorSpec):
    """The 3×3 max-pool of stride 2 behind the backbone's stem."""

    kind: ClassVar[str] = "max_pool"

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        return nn.MaxPool2d(3, stride=2, padding=1)


class ResNet(nn.Module):
    """ResNet50 with output strides 4, 8, 8 and 8 after its four stages.

    Args:
        stem: `plain` is one 7×7 convolution, which takes ImageNet weights of the common ResNet50 one to one; `deep`
            is three 3×3 convolutions (ResNet50-v1s).
        width_factor: Multiplier of all channel counts.
        dilations: Dilation of each unit of layer3 and of layer4.

    Source: He et al., CVPR 2016; the deep stem and the dilated stages as in the public PyTorch ICNet and semseg.
    """

    def __init__(self, stem: StemKind, width_factor: float, *, dilations: Dilations) -> None:
        super().__init__()
        channels = resnet_channels(stem, width_factor)
        kernel_size = 7 if stem == "plain" else 3
        blocks, before = nn.Sequential(), 3
        for index, after in enumerate(channels.stem):
            blocks.append(ConvNormAct(before, after, kernel_size=kernel_size, stride=1 if index else 2))
            before = after
        self.stem = blocks
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Sequential] = []
        stage_dilations = ((1,) * STAGE_BLOCKS[0], (1,) * STAGE_BLOCKS[1], *dilations)
        for index, unit_dilations in enumerate(stage_dilations):
            assert len(unit_dilations) == STAGE_BLOCKS[index], "one dilation for each unit"
            reduced, after = channels.reduced[index], channels.out[index]
            stages.append(_stage(before, reduced, after, stride=STAGE_STRIDES[index], dilations=unit_dilations))
            before = after
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def shallow(self, image: torch.Tensor) -> torch.Tensor:
        """From (N, 3, H, W) to layer1's output at stride 4."""
        feature: torch.Tensor = self.layer1(self.pool(self.stem(image)))
        return feature

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """From (N, 3, H, W) to layer4's output at stride 8."""
        feature: torch.Tensor = self.layer4(self.layer3(self.layer2(self.shallow(image))))
        return feature

    def operator_specs(self, stages: Sequence[str], input_size: Size) -> Iterator[OperatorSpec]:
        """Stem, max-pool and the named stages on an image of (height, width)."""
        stem = list(chain_specs(self.stem, input_size))
        yield from stem
        size = strided(input_size, 2)
        yield MaxPoolSpec(**input_fields(stem[-1].out_channels, size))
        size = halved(size)
        for stage in stages:
            for unit in self.get_submodule(stage).children():
                assert isinstance(unit, Bottleneck)
                spec = BottleneckSpec.of(unit, size)
                yield spec
                size = halved(size) if spec.stride == 2 else size


def _stage(
    in_channels: int, reduced_channels: int, out_channels: int, *, stride: int, dilations: tuple[int, ...]
) -> nn.Sequential:
    units = nn.Sequential()
    for index, dilation in enumerate(dilations):
        units.append(
            Bottleneck(
                out_channels if index else in_channels,
                reduced_channels=reduced_channels,
                spatial_channels=reduced_channels,
                out_channels=out_channels,
                stride=1 if index else stride,
                dilation=dilation,
                downsample=index == 0,
            )
        )
    return units
