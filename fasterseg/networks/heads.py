"""The parts around the cells: stem, prediction head, and the fusion of a branch's maps up to stride 8.

The supernet and the derived networks use the same classes; these parts are not slimmable.
"""

from collections.abc import Sequence

import torch
from torch import nn

from fasterseg.networks.channels import fusion_channels
from fasterseg.networks.operators import Conv2x, ConvNormAct
from fasterseg.networks.resizing import map_size, resize_bilinear

HEAD_FULL_CHANNELS = 256


def stem_channels(base_channels: int, width: float) -> tuple[int, int, int]:
    """Channels after the stem's three blocks, at output strides 2, 4 and 8."""
    return (
        fusion_channels(2, base_channels, 2 * width),
        fusion_channels(4, base_channels, 2 * width),
        fusion_channels(8, base_channels, width),
    )


class Stem(nn.Sequential):
    """From the image to stride 8: a strided 3×3 convolution and two strided double convolutions.

    Shape:
        (N, 3, H, W) normalised RGB to (N, round(8·F·width), H/8, W/8), sizes rounded up.

    Source: FasterSeg, section 3.1.
    """

    def __init__(self, base_channels: int, width: float) -> None:
        first, second, third = stem_channels(base_channels, width)
        super().__init__(
            ConvNormAct(3, first, kernel_size=3, stride=2),
            Conv2x(first, second, stride=2),
            Conv2x(second, third, stride=2),
        )


def head_channels(in_channels: int) -> int:
    """Channels between a head's two convolutions: kept up to 256, halved above."""
    return in_channels if in_channels <= HEAD_FULL_CHANNELS else in_channels // 2


class Head(nn.Module):
    """Prediction head: 3×3 convolution, batch norm, ReLU, 1×1 convolution with bias to the classes.

    Shape:
        (N, in_channels, H, W) to logits (N, num_classes, H, W).
    """

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        hidden = head_channels(in_channels)
        self.block = ConvNormAct(in_channels, hidden, kernel_size=3)
        self.classifier = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the head on (N, in_channels, H, W)."""
        logits: torch.Tensor = self.classifier(self.block(feature))
        return logits


class FusionStep(nn.Module):
    """One step up: the deep map is projected, resized to the shallow one, concatenated before it and refined.

    Args:
        deep_channels: Channels of the map of the larger stride.
        shallow_channels: Channels of the map it is fused into.
        out_channels: Channels of the projection and of the result.
    """

    def __init__(self, deep_channels: int, shallow_channels: int, *, out_channels: int) -> None:
        super().__init__()
        self.project = ConvNormAct(deep_channels, out_channels, kernel_size=1)
        self.refine = ConvNormAct(out_channels + shallow_channels, out_channels, kernel_size=3)

    def forward(self, deep: torch.Tensor, shallow: torch.Tensor) -> torch.Tensor:
        """Fuses (N, deep_channels, h, w) into (N, shallow_channels, H, W), giving (N, out_channels, H, W)."""
        raised = resize_bilinear(self.project(deep), map_size(shallow))
        fused: torch.Tensor = self.refine(torch.cat([raised, shallow], dim=1))
        return fused


class BranchFusion(nn.Module):
    """Fuses a branch's last maps of every output stride into one map at stride 8.

    Args:
        base_channels: F of the search space.
        width: The head width multiplier.
        map_channels: Channels of the branch's maps from its end (largest stride) up to stride 8; one entry for a branch
            that ends at stride 8, which is returned unchanged.

    Source: FasterSeg, section 3.1; every concatenation is [deep, shallow].
    """

    def __init__(self, base_channels: int, width: float, *, map_channels: Sequence[int]) -> None:
        super().__init__()
        self.steps = nn.ModuleList()
        deep = map_channels[0]
        for shallow, out_channels in zip(
            map_channels[1:], fused_channels(base_channels, width, steps=len(map_channels) - 1), strict=True
        ):
            self.steps.append(FusionStep(deep, shallow, out_channels=out_channels))
            deep = out_channels

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        """Fuses the maps, deepest first, into one (N, C, H/8, W/8) map."""
        fused = maps[0]
        for step, shallow in zip(self.steps, maps[1:], strict=True):
            fused = step(fused, shallow)
        return fused


def fused_channels(base_channels: int, width: float, *, steps: int) -> tuple[int, ...]:
    """Channels after each fusion step of a branch that needs `steps` of them to reach stride 8."""
    return tuple(fusion_channels(8 * 2**level, base_channels, width) for level in reversed(range(steps)))
