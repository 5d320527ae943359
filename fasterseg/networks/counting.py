"""Parameter and multiply-accumulate counts of any module, by PyTorch's own counter."""

from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fasterseg.networks.resizing import Size


class NetworkSize(NamedTuple):
    """How big a network is.

    Attributes:
        parameters: Trainable values of what runs in evaluation and of the auxiliary heads.
        macs: Multiply-accumulates of the convolutions and matrix products of one evaluation.
    """

    parameters: int
    macs: int


def count_parameters(module: nn.Module) -> int:
    """The number of trainable values of a module, auxiliary heads included."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def count_macs(module: nn.Module, input_size: Size) -> int:
    """Multiply-accumulates of one evaluation of a single image of (height, width).

    Counts convolutions and matrix products (`torch.utils.flop_counter` counts two operations for each); batch norm,
    activation and resizing are not counted. The module is evaluated in evaluation mode and left as it was.
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
