"""What a baseline's specifications claim and what its evaluation does, in forms that a test can compare."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fasterseg.networks import Network, OperatorSpec, Size
from fasterseg.networks.operators import ConvNormAct
from fasterseg.networks.pyramid import PyramidStage, PyramidSum
from fasterseg.networks.resizing import Resize
from fasterseg.networks.resnet import Bottleneck, ConvNorm

_OPERATORS = (ConvNormAct, ConvNorm, Bottleneck, PyramidSum, PyramidStage, nn.MaxPool2d)

Operators = Counter[tuple[str, tuple[int, ...]]]


def specified_macs(specs: Iterable[OperatorSpec]) -> int:
    """Multiply-accumulates of the modules that the specifications build."""
    total = 0
    for spec in specs:
        counter = FlopCounterMode(display=False)
        with torch.device("meta"), torch.no_grad():
            module = spec.build().eval()
            with counter:
                module(torch.zeros(spec.input_shape()))
        total += counter.get_total_flops() // 2
    return total


def operators_specified(specs: Iterable[OperatorSpec]) -> Operators:
    """The built modules, resizes left out, each with the shape it reads."""
    with torch.device("meta"):
        built = [(spec.build(), spec.input_shape()) for spec in specs]
    return Counter((str(module), shape) for module, shape in built if not isinstance(module, Resize))


def operators_run(network: Network, size: Size) -> Operators:
    """The outermost operators that one evaluation of a network on the meta device calls, likewise."""
    found: Operators = Counter()

    def record(module: nn.Module, inputs: tuple[torch.Tensor, ...], _: Any) -> None:
        found[str(module), tuple(inputs[0].shape)] += 1

    inside = {
        id(part)
        for module in network.modules()
        if isinstance(module, _OPERATORS)
        for part in list(module.modules())[1:]
    }
    for module in network.modules():
        if isinstance(module, (*_OPERATORS, nn.Conv2d)) and id(module) not in inside:
            module.register_forward_hook(record)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, *size, device="meta"))
    return found
