"""The convolutional blocks of the hand-designed networks that the searched ones do not have: ICNet's and PSPNet's.

All of them are plain `nn.Conv2d` and `nn.BatchNorm2d`, so that filters can be pruned from them.
"""

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.operators import ConvNormAct


class ConvNorm(nn.Module):
    """Convolution without bias and batch norm, no activation: what stands before a sum.

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


class DropoutHead(nn.Module):
    """PSPNet's prediction head: 3×3 convolution, batch norm, ReLU, channel dropout, 1×1 convolution with bias.

    Shape:
        (N, in_channels, H, W) to logits (N, num_classes, H, W).

    Source: semseg, model/pspnet.py (`cls` and `aux`).
    """

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, *, dropout: float) -> None:
        super().__init__()
        self.block = ConvNormAct(in_channels, hidden_channels, kernel_size=3)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(hidden_channels, num_classes, 1)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the head on (N, in_channels, H, W)."""
        return self.classify(self.block(feature))

    def classify(self, hidden: torch.Tensor) -> torch.Tensor:
        """The logits of the block's output (N, hidden_channels, H, W)."""
        logits: torch.Tensor = self.classifier(self.dropout(hidden))
        return logits
