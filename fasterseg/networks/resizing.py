"""Bilinear resizing and the sizes it goes to, shared by operators, fusion and the final upsampling.

Every map size in the toolkit rounds up when it is halved, so strided convolutions and resizes agree and any input
size runs.
"""

import torch
from torch import nn
from torch.nn import functional

Size = tuple[int, int]


def halved(size: Size) -> Size:
    """The (height, width) of a map after one halving, rounded up as a padded strided convolution rounds."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def strided(size: Size, output_stride: int) -> Size:
    """The (height, width) of the map of a power-of-two output stride for an input of the given size."""
    while output_stride > 1:
        size = halved(size)
        output_stride //= 2
    return size


def map_size(feature: torch.Tensor) -> Size:
    """The (height, width) of an (N, C, H, W) tensor as plain integers."""
    return int(feature.shape[2]), int(feature.shape[3])


def resize_bilinear(feature: torch.Tensor, size: Size) -> torch.Tensor:
    """Resizes a map to an explicit size, bilinear with aligned corners; a map of that size is returned unchanged.

    Shape:
        (N, C, H, W) floating point to (N, C, size[0], size[1]).

    Source: FasterSeg, section 3.1 (all resizes bilinear with align_corners).
    """
    if map_size(feature) == size:
        return feature
    return functional.interpolate(feature, size=size, mode="bilinear", align_corners=True)


class Resize(nn.Module):
    """A resize to a fixed size as a module, so that it can be listed, timed and exported like any operator."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.size = size

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Resizes (N, C, H, W) to (N, C, *size)."""
        return resize_bilinear(feature, self.size)
