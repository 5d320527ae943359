"""ICNet: three branches of rising cost on images of falling size, fused from the coarsest up.

The whole backbone runs on the quarter-size image, and its part up to layer2 on the half-size image. The public port
also runs layer3 and layer4 on the half-size image; nothing uses their output, so they are left out here.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.baseline import BaselineArchitecture, BaselineNetwork
from fasterseg.networks.network import SegmentationLogits
from fasterseg.networks.operator_specs import ClassifierSpec, OperatorSpec, ResizeSpec, chain_specs, input_fields
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.pyramid import PyramidSum, PyramidSumSpec
from fasterseg.networks.resizing import Size, map_size, resize_bilinear, strided
from fasterseg.networks.resnet import (
    STAGES,
    ConvNorm,
    ConvNormSpec,
    Dilations,
    ResNet,
    resnet_channels,
    scaled_channels,
)

DILATIONS: Dilations = ((1, 2, 2, 2, 2, 2), (2, 4, 4))
_DETAIL_CHANNELS = (32, 32, 64)
_FUSION_CHANNELS = (128,)


@dataclass(frozen=True)
class ICNetArchitecture(BaselineArchitecture):
    """ICNet's structure; see `BaselineArchitecture`."""

    FORMAT: ClassVar[str] = "icnet-architecture"

    def build(self, num_classes: int) -> "ICNet":
        """The network with fresh weights."""
        return ICNet(self, num_classes)


class CascadeFeatureFusion(nn.Module):
    """Fuses a coarse map into a finer one: both are projected and normalised, then added.

    Args:
        low_channels: Channels of the coarse map.
        high_channels: Channels of the finer map.
        out_channels: Channels of the result.

    Source: ICNet, section 3.3.
    """

    def __init__(self, low_channels: int, high_channels: int, *, out_channels: int) -> None:
        super().__init__()
        self.low = ConvNorm(low_channels, out_channels, kernel_size=3, dilation=2)
        self.high = ConvNorm(high_channels, out_channels, kernel_size=1)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuses (N, low_channels, h, w) into (N, high_channels, H, W).

        Returns:
            The fused map and the projected coarse one, which the auxiliary classifier reads, both
            (N, out_channels, H, W).
        """
        projected = self.low(resize_bilinear(low, map_size(high)))
        return functional.relu(projected + self.high(high)), projected


class ICNet(BaselineNetwork):
    """Image cascade network over a dilated ResNet50.

    Args:
        architecture: Stem and width.
        num_classes: Channels of the logits.

    Attributes:
        backbone: The ResNet50, which ImageNet weights are for.

    Shape:
        (N, 3, H, W) normalised RGB to main logits at stride 4; in training mode auxiliary logits at stride 8 and 16.

    Source: Zhao et al., ECCV 2018.
    """

    auxiliary_scales = (8, 16)

    def __init__(self, architecture: ICNetArchitecture, num_classes: int) -> None:
        super().__init__()
        self.architecture = architecture
        self.num_classes = num_classes
        width = architecture.width_factor
        backbone_channels = resnet_channels(architecture.stem, width).out
        (fused,) = scaled_channels(_FUSION_CHANNELS, width)
        self.detail, before = nn.Sequential(), 3
        for after in scaled_channels(_DETAIL_CHANNELS, width):
            self.detail.append(ConvNormAct(before, after, kernel_size=3, stride=2))
            before = after
        self.backbone = ResNet(architecture.stem, width, dilations=DILATIONS)
        self.pyramid = PyramidSum()
        self.fusion16 = CascadeFeatureFusion(backbone_channels[3], backbone_channels[1], out_channels=fused)
        self.fusion8 = CascadeFeatureFusion(fused, before, out_channels=fused)
        self.classifier = nn.Conv2d(fused, num_classes, 1, bias=False)
        self.auxiliary_heads = nn.ModuleDict(
            {str(scale): nn.Conv2d(fused, num_classes, 1, bias=False) for scale in self.auxiliary_scales}
        )

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        """Computes the logits of (N, 3, H, W)."""
        size = map_size(image)
        medium = self._run_backbone(resize_bilinear(image, strided(size, 2)), STAGES[:2])
        coarse = self._run_backbone(resize_bilinear(image, strided(size, 4)), STAGES)
        fused16, low16 = self.run_segment(self._fuse16, coarse, medium)
        fused8, low8 = self.run_segment(self._fuse8, fused16, image)
        main = self.classifier(resize_bilinear(fused8, strided(size, 4)))
        if not self.training:
            return SegmentationLogits(main)
        return SegmentationLogits(main, (self.auxiliary_heads["8"](low8), self.auxiliary_heads["16"](low16)))

    def _run_backbone(self, image: torch.Tensor, stages: tuple[str, ...]) -> torch.Tensor:
        feature: torch.Tensor = self.run_segment(self.backbone.shallow, image)
        for stage in stages[1:]:
            feature = self.run_segment(self.backbone.get_submodule(stage), feature)
        return feature

    def _fuse16(self, coarse: torch.Tensor, medium: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        fused: tuple[torch.Tensor, torch.Tensor] = self.fusion16(self.pyramid(coarse), medium)
        return fused

    def _fuse8(self, fused16: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # the fusion reads fusion16's output: reading the half-size branch would leave layer3 and layer4 untrained
        fused: tuple[torch.Tensor, torch.Tensor] = self.fusion8(fused16, self.detail(image))
        return fused

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """See `Network.operator_specs`; the additions in the fusions are not listed."""
        sizes = {stride: strided(input_size, stride) for stride in (1, 2, 4, 8, 16, 32)}
        coarse_channels, fused_channels = self.fusion16.low.conv.in_channels, self.fusion8.low.conv.in_channels
        return (
            *chain_specs(self.detail, input_size),
            ResizeSpec.of(3, sizes[1], sizes[2]),
            *self.backbone.operator_specs(STAGES[:2], sizes[2]),
            ResizeSpec.of(3, sizes[1], sizes[4]),
            *self.backbone.operator_specs(STAGES, sizes[4]),
            PyramidSumSpec(**input_fields(coarse_channels, sizes[32])),
            ResizeSpec.of(coarse_channels, sizes[32], sizes[16]),
            ConvNormSpec.of(self.fusion16.low, sizes[16]),
            ConvNormSpec.of(self.fusion16.high, sizes[16]),
            ResizeSpec.of(fused_channels, sizes[16], sizes[8]),
            ConvNormSpec.of(self.fusion8.low, sizes[8]),
            ConvNormSpec.of(self.fusion8.high, sizes[8]),
            ResizeSpec.of(self.classifier.in_channels, sizes[8], sizes[4]),
            ClassifierSpec.of(self.classifier, sizes[4]),
            ResizeSpec.of(self.num_classes, sizes[4], sizes[1]),
        )
