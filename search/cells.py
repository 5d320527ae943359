"""The supernet's cells: every operator of the space side by side, mixed by the architecture's probabilities."""

from collections.abc import Sequence

import torch
from torch import nn

from fasterseg.networks.operators import Operator, ZoomedOperator, operator_class
from fasterseg.networks.resizing import halved, map_size, resize_bilinear
from fasterseg.networks.slimmable import LayerFactory
from fasterseg.networks.space import STRIDES, SpaceConfig

MixWeights = Sequence[float] | torch.Tensor


class CellInput:
    """A map that enters a cell, resized to half once for all zoomed operators that read it."""

    def __init__(self, feature: torch.Tensor) -> None:
        self.feature = feature
        self.size = map_size(feature)
        self._half: torch.Tensor | None = None

    @property
    def half(self) -> torch.Tensor:
        """The map at half resolution, (N, C, ceil(H / 2), ceil(W / 2))."""
        if self._half is None:
            self._half = resize_bilinear(self.feature, halved(self.size))
        return self._half


class MixedOperator(nn.Module):
    """All operators of the space between two maps; their results are added up with the weights of the mixture.

    Args:
        in_channels: Channels of the input at full width.
        out_channels: Channels of the output at full width.
        stride: 1 (keep) or 2 (down).
        operators: Registered operator names.
        layers: Makes slimmable layers.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int, operators: Sequence[str], layers: LayerFactory
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.operators = nn.ModuleList(
            operator_class(name)(in_channels, out_channels, stride=stride, layers=layers) for name in operators
        )
        self._active_out_channels = out_channels

    def set_out_channels(self, out_channels: int) -> None:
        """Sets the width of the output from now on."""
        if out_channels == self._active_out_channels:
            return
        self._active_out_channels = out_channels
        for operator in self.operators:
            assert isinstance(operator, Operator)
            operator.set_out_channels(out_channels)

    def forward(self, inputs: Sequence[CellInput], weights: Sequence[MixWeights]) -> torch.Tensor:
        """Mixes the operators' results on every input.

        Args:
            inputs: The maps of the cell's one or two parents, of one shape.
            weights: For each input one weight per operator.

        Returns:
            (N, active output channels, ceil(H / stride), ceil(W / stride)).
        """
        maps = [self._run(operator, source) for source in inputs for operator in self.operators]
        return mix(maps, weights)

    @staticmethod
    def _run(operator: nn.Module, source: CellInput) -> torch.Tensor:
        if isinstance(operator, ZoomedOperator):
            return operator.forward_halved(source.half, source.size)
        output: torch.Tensor = operator(source.feature)
        return output


def mix(maps: Sequence[torch.Tensor], weights: Sequence[MixWeights]) -> torch.Tensor:
    """The weighted sum of maps; weights are plain numbers where the architecture is not being learned."""
    learned = [row for row in weights if isinstance(row, torch.Tensor)]
    if learned:
        scalars = torch.cat(learned).unbind()
        total = maps[0] * scalars[0]
        for feature, scalar in zip(maps[1:], scalars[1:], strict=True):
            total = torch.addcmul(total, feature, scalar)
        return total
    numbers = [float(weight) for row in weights for weight in row]
    total = maps[0] * numbers[0]
    for feature, number in zip(maps[1:], numbers[1:], strict=True):
        total = torch.add(total, feature, alpha=number)
    return total


class Cell(nn.Module):
    """A place on the lattice: its maps go on at the same stride ("keep") and at twice the stride ("down").

    Args:
        space: Channels and operators.
        layer: Layer of the cell.
        stride: Output stride of the map it reads.
        layers: Makes slimmable layers.
    """

    def __init__(self, space: SpaceConfig, layer: int, stride: int, *, layers: LayerFactory) -> None:
        super().__init__()
        in_channels = space.channels(stride, 1.0)
        self.keep = MixedOperator(in_channels, in_channels, stride=1, operators=space.operators, layers=layers)
        self.down: MixedOperator | None = None
        if stride != STRIDES[-1] and layer < space.layers - 1:
            out_channels = space.channels(2 * stride, 1.0)
            self.down = MixedOperator(in_channels, out_channels, stride=2, operators=space.operators, layers=layers)
