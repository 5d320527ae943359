"""What every network has in common, searched or hand-designed: `SegmentationLogits` out, specifications for a size."""

import torch
from torch import nn

from fasterseg.networks.outputs import SegmentationLogits
from fasterseg.networks.resizing import Size, map_size, resize_bilinear
from fasterseg.networks.specs import OperatorSpec


class Network(nn.Module):
    """Base of all segmentation networks: whatever takes one takes all.

    Attributes:
        num_classes: Channels of the logits.
        auxiliary_scales: Output strides of the auxiliary logits, in order.

    Shape:
        (N, 3, H, W) normalised RGB, any H and W, to `SegmentationLogits`.
    """

    num_classes: int
    auxiliary_scales: tuple[int, ...] = ()

    def forward(self, image: torch.Tensor) -> SegmentationLogits:
        """Computes the logits; the auxiliary ones in training mode only."""
        raise NotImplementedError

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """What one evaluation of an image of (height, width) runs, the final resize to the image's size included."""
        raise NotImplementedError


class DeployedNetwork(nn.Module):
    """A network as it is timed and exported: image in, logits at the image's size out.

    Shape:
        (N, 3, H, W) normalised RGB to logits (N, num_classes, H, W).
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Runs the network and resizes its main logits to the image's size."""
        logits: SegmentationLogits = self.network(image)
        return resize_bilinear(logits.main, map_size(image))
