"""The channel count of a map, from its output stride, the base channels and a width multiplier."""

import math
from typing import Literal

CHANNEL_DIVISOR = 8
# the first layers of a ResNet: three 3×3 convolutions, or one of 7×7
StemKind = Literal["deep", "plain"]
STEM_KINDS: tuple[StemKind, ...] = ("deep", "plain")


def make_divisible(channels: float, divisor: int = CHANNEL_DIVISOR) -> int:
    """Rounds a channel count to a multiple of `divisor`, never below 90 % of `channels`.

    Source: slimmable networks (Yu et al., ICLR 2019), which took it from MobileNet.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def cell_channels(output_stride: int, base_channels: int, width: float) -> int:
    """Channels of a cell's map: `output_stride * base_channels` at width 1, a multiple of 8 at every width."""
    return make_divisible(output_stride * base_channels * width)


def fusion_channels(scale: int, base_channels: int, width: float) -> int:
    """Channels of the stem's and the fusion's maps: `scale * base_channels * width`, rounded to an integer."""
    return max(1, math.floor(scale * base_channels * width + 0.5))
