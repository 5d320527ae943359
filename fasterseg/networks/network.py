"""The interface of every network, searched or hand-designed: logits, operator specifications, size."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.resizing import Size, map_size, resize_bilinear


class SegmentationLogits(NamedTuple):
    """Unnormalised class scores of one forward pass, each head at its own output stride.

    Attributes:
        main: The logits that predictions are made from.
        auxiliary: Logits of the training-only heads, in the order of `Network.auxiliary_scales`; empty in evaluation.

    Shape:
        main: (N, num_classes, H / stride, W / stride), floating point, any range; auxiliary likewise.
    """

    main: torch.Tensor
    auxiliary: tuple[torch.Tensor, ...] = ()


class Network(nn.Module):
    """Base class of all segmentation networks.

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
        """The operators of one evaluation of an image of (height, width), with the final resize to its size."""
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


class NetworkSize(NamedTuple):
    """The size of a network.

    Attributes:
        parameters: Number of trainable parameters, auxiliary heads included.
        macs: Multiply-accumulates of the convolutions and matrix products of one evaluation.
    """

    parameters: int
    macs: int

    @property
    def gmacs(self) -> float:
        """Multiply-accumulates in billions."""
        return self.macs / 1e9


def count_parameters(module: nn.Module) -> int:
    """The number of trainable parameters of a module, auxiliary heads included."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_macs(module: nn.Module, input_size: Size) -> int:
    """Multiply-accumulates of one evaluation of a single image of (height, width).

    Counts convolutions and matrix products (`torch.utils.flop_counter` counts two operations for each); batch norm,
    activation and resizing are not counted. The module runs in evaluation mode; its previous mode is restored.
    """
    parameter = next(module.parameters())
    image = torch.zeros((1, 3, *input_size), device=parameter.device, dtype=parameter.dtype)
    was_training = module.training
    module.eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        module(image)
    module.train(was_training)
    return int(counter.get_total_flops()) // 2


def measure_size(module: nn.Module, input_size: Size) -> NetworkSize:
    """Parameters and multiply-accumulates together."""
    return NetworkSize(count_parameters(module), count_macs(module, input_size))
