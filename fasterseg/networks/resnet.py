"""ResNet50 as the backbone of ICNet and PSPNet: two stems, dilated last stages, output stride 8.

The channel counts of every width stand here, in `resnet_channels`, and nowhere else.
"""

from typing import NamedTuple

import torch
from torch import nn

from fasterseg.networks.blocks import Bottleneck
from fasterseg.networks.channels import StemKind, make_divisible
from fasterseg.networks.operators import ConvNormAct

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
