"""The operators a cell chooses between, each written once for its plain and its slimmable form.

The registry is open: `register_operator("name")` on a subclass of `Operator` adds a choice that a search space can
name. Section 3.1 of FasterSeg defines the five built-in ones; their order there is the order of `OPERATOR_NAMES`.
"""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.resizing import Size, halved, map_size, resize_bilinear
from fasterseg.networks.slimmable import PLAIN, LayerFactory, SlimmableConv2d


class Operator(nn.Module):
    """Base of all operators: maps (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input at full width.
        out_channels: Channels of the output at full width.
        stride: 1 keeps the map's size, 2 halves it (rounded up).
        layers: Makes the layers; `PLAIN` for derived networks, `SlimmableLayers` for the supernet.
    """

    name: ClassVar[str]

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, layers: LayerFactory = PLAIN) -> None:
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"stride {stride} of operator '{self.name}' is not supported; use 1 or 2")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.stride = stride
        self.compose(layers)
        # a plain list, collected once: the supernet sets widths about a thousand times per step
        self._slimmable = [module for module in self.modules() if isinstance(module, SlimmableConv2d)]

    def compose(self, layers: LayerFactory) -> None:
        """Creates the operator's layers as attributes; called once, when the operator is made."""
        raise NotImplementedError

    @property
    def conv_stride(self) -> int:
        """Stride of the first convolution."""
        return self.stride

    def convolve(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs (N, C, H, W) up to and including the last convolution; `finish` takes the result."""
        raise NotImplementedError

    @property
    def last_norm(self) -> nn.Module:
        """The batch norm after the last convolution."""
        raise NotImplementedError

    def finish(self, convolved: torch.Tensor, size: Size) -> torch.Tensor:  # noqa: ARG002 - zoomed operators need it
        """Applies the last batch norm and ReLU.

        Args:
            convolved: The output of `convolve`, (N, out_channels, H, W).
            size: (height, width) of the operator's input.
        """
        return functional.relu(self.last_norm(convolved), inplace=True)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the operator on (N, C, H, W); see the class for shapes."""
        return self.finish(self.convolve(feature), map_size(feature))

    def set_out_channels(self, out_channels: int) -> None:
        """Sets the number of output channels of a slimmable operator; its input channels follow from its input."""
        for conv in self._slimmable:
            active = out_channels * conv.out_channels // self.out_channels
            if conv.active_out_channels != active:  # reading a module's attribute is fast, setting it is slow
                conv.active_out_channels = active


_REGISTRY: dict[str, type[Operator]] = {}


def register_operator(name: str) -> Callable[[type[Operator]], type[Operator]]:
    """Class decorator that registers an operator under `name` for search spaces, specifications and files.

    Raises:
        ValueError: The name is taken.
    """

    def register(operator: type[Operator]) -> type[Operator]:
        if name in _REGISTRY:
            raise ValueError(f"operator name '{name}' is already registered by {_REGISTRY[name].__qualname__}")
        operator.name = name
        _REGISTRY[name] = operator
        return operator

    return register


def operator_class(name: str) -> type[Operator]:
    """The registered operator of that name.

    Raises:
        ValueError: No operator has that name; the message lists those there are.
    """
    if name not in _REGISTRY:
        raise ValueError(f"unknown operator '{name}'; the registered operators are {', '.join(_REGISTRY)}")
    return _REGISTRY[name]


def registered_operators() -> tuple[str, ...]:
    """The names of all registered operators, in order of registration."""
    return tuple(_REGISTRY)


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, ReLU: the building block of stem, fusion and heads.

    Shape:
        (N, in_channels, H, W) to (N, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = PLAIN.conv(in_channels, out_channels, kernel_size=kernel_size, stride=stride)
        self.norm = PLAIN.norm(out_channels)

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the block on (N, in_channels, H, W)."""
        return functional.relu(self.norm(self.conv(feature)), inplace=True)


@register_operator("skip")
class Skip(Operator):
    """The cheapest way through a cell.

    Stride 2 is the factorised reduction: two 1×1 convolutions of half the channels, the second on the input shifted by
    one pixel. Stride 1 is a 1×1 convolution in the supernet. A derived network leaves the layer out instead, which is
    the identity.
    """

    def compose(self, layers: LayerFactory) -> None:
        """See `Operator.compose`."""
        halves = self.stride
        self.conv1 = layers.conv(self.in_channels, self.out_channels // halves, kernel_size=1, stride=self.stride)
        if halves == 2:
            self.conv2 = layers.conv(self.in_channels, self.out_channels // halves, kernel_size=1, stride=2)
        self.norm = layers.norm(self.out_channels)

    def convolve(self, feature: torch.Tensor) -> torch.Tensor:
        """See `Operator.convolve`."""
        if self.stride == 1:
            output: torch.Tensor = self.conv1(feature)
            return output
        height, width = map_size(feature)
        # an odd size is padded by a zero row or column, so that both halves round up to the same size
        padded = functional.pad(feature, (0, width % 2, 0, height % 2)) if height % 2 or width % 2 else feature
        return torch.cat([self.conv1(feature), self.conv2(padded[:, :, 1:, 1:])], dim=1)

    @property
    def last_norm(self) -> nn.Module:
        """See `Operator.last_norm`."""
        return self.norm


@register_operator("conv")
class Conv(Operator):
    """One 3×3 convolution."""

    def compose(self, layers: LayerFactory) -> None:
        """See `Operator.compose`."""
        self.conv1 = layers.conv(self.in_channels, self.out_channels, kernel_size=3, stride=self.conv_stride)
        self.norm1 = layers.norm(self.out_channels)

    def convolve(self, feature: torch.Tensor) -> torch.Tensor:
        """See `Operator.convolve`."""
        output: torch.Tensor = self.conv1(feature)
        return output

    @property
    def last_norm(self) -> nn.Module:
        """See `Operator.last_norm`."""
        return self.norm1


class ZoomedOperator(Operator):
    """Base of operators that work at half resolution and, at stride 1, resize back ("zoomed convolutions").

    At half resolution they run the operator that is their second base class, without its stride. Their `convolve` takes
    the input at half size, so that several operators can share one resized input.
    """

    @property
    def conv_stride(self) -> int:
        """See `Operator.conv_stride`: the input is halved already."""
        return 1

    def forward(self, feature: torch.Tensor) -> torch.Tensor:
        """Runs the operator; see `Operator` for shapes."""
        size = map_size(feature)
        return self.finish(self.convolve(resize_bilinear(feature, halved(size))), size)

    def finish(self, convolved: torch.Tensor, size: Size) -> torch.Tensor:
        """Applies the last batch norm, at stride 1 the resize back, and ReLU; see `Operator.finish`."""
        normalised = self.last_norm(convolved)
        return functional.relu(resize_bilinear(normalised, size) if self.stride == 1 else normalised, inplace=True)


@register_operator("conv_downup")
class ConvDownUp(ZoomedOperator, Conv):
    """A 3×3 convolution at half resolution."""


@register_operator("conv_2x")
class Conv2x(Operator):
    """Two 3×3 convolutions, the first of them strided."""

    def compose(self, layers: LayerFactory) -> None:
        """See `Operator.compose`."""
        self.conv1 = layers.conv(self.in_channels, self.out_channels, kernel_size=3, stride=self.conv_stride)
        self.norm1 = layers.norm(self.out_channels)
        self.conv2 = layers.conv(self.out_channels, self.out_channels, kernel_size=3)
        self.norm2 = layers.norm(self.out_channels)

    def convolve(self, feature: torch.Tensor) -> torch.Tensor:
        """See `Operator.convolve`."""
        output: torch.Tensor = self.conv2(functional.relu(self.norm1(self.conv1(feature)), inplace=True))
        return output

    @property
    def last_norm(self) -> nn.Module:
        """See `Operator.last_norm`."""
        return self.norm2


@register_operator("conv_2x_downup")
class Conv2xDownUp(ZoomedOperator, Conv2x):
    """Two 3×3 convolutions at half resolution."""


SKIP = Skip.name
OPERATOR_NAMES = registered_operators()
