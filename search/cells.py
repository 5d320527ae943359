"""The supernet's cells: every operator of the space side by side, mixed by the architecture's probabilities."""

from collections.abc import Sequence

import torch
from torch import nn

from fasterseg.networks.operators import Operator, ZoomedOperator, operator_class
from fasterseg.networks.resizing import halved, map_size, resize_bilinear
from fasterseg.networks.slimmable import LayerFactory, SlimmableLayers
from fasterseg.networks.space import STRIDES, SpaceConfig, first_layer
from search.mixing import can_mix_convolved, mix_convolved, mix_finished


class CellInput:
    """The maps that enter a cell, side by side in one batch, and their half size, made once for all zoomed operators.

    Args:
        maps: The map of each parent, (N, C, H, W).
    """

    def __init__(self, maps: Sequence[torch.Tensor]) -> None:
        self.feature = maps[0] if len(maps) == 1 else torch.cat(list(maps))
        self.size = map_size(self.feature)
        self._half: torch.Tensor | None = None

    @property
    def half(self) -> torch.Tensor:
        """The batch at half resolution, (parents · N, C, ceil(H / 2), ceil(W / 2))."""
        if self._half is None:
            self._half = resize_bilinear(self.feature, halved(self.size))
        return self._half


class MixedOperator(nn.Module):
    """All operators of the space between two maps; their results are added up with the weights of the mixture.

    Both parents of a cell go through the operators in one batch; its halves keep batch norm statistics of their own.

    Attributes:
        active: Which operators run from now on, by index; all of them at first.

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
        self.active = tuple(range(len(operators)))

    def set_out_channels(self, out_channels: int) -> None:
        """Sets the width of the output from now on."""
        if out_channels == self._active_out_channels:
            return
        self._active_out_channels = out_channels
        for operator in self._operators():
            operator.set_out_channels(out_channels)

    def forward(self, source: CellInput, weights: torch.Tensor) -> torch.Tensor:
        """Mixes the operators' results over all parents.

        Args:
            source: The maps of the cell's parents.
            weights: (parents, active operators).

        Returns:
            (N, active output channels, ceil(H / stride), ceil(W / stride)).
        """
        operators = [self._operators()[index] for index in self.active]
        convolved = [
            operator.convolve(source.half if isinstance(operator, ZoomedOperator) else source.feature)
            for operator in operators
        ]
        if self.training and can_mix_convolved(convolved[0]):
            return mix_convolved(operators, convolved, weights, source.size)
        finished = [each.finish(feature, source.size) for each, feature in zip(operators, convolved, strict=True)]
        return mix_finished(finished, weights)

    def _operators(self) -> list[Operator]:
        return [operator for operator in self.operators if isinstance(operator, Operator)]


def num_parents(layer: int, stride: int) -> int:
    """How many maps enter a cell: 2 (down, keep), but 1 at stride 8 and at a stride's first layer."""
    return 2 if stride > STRIDES[0] and layer > first_layer(stride) else 1


class Cell(nn.Module):
    """A place on the lattice: its maps go on at the same stride ("keep") and at twice the stride ("down").

    Args:
        space: Channels, widths and operators.
        layer: Layer of the cell.
        stride: Output stride of the map it reads.
    """

    def __init__(self, space: SpaceConfig, layer: int, stride: int) -> None:
        super().__init__()
        self.num_parents = num_parents(layer, stride)
        layers = SlimmableLayers(space.widths, batch_parts=self.num_parents)
        in_channels = space.channels(stride, 1.0)
        self.keep = MixedOperator(in_channels, in_channels, stride=1, operators=space.operators, layers=layers)
        self.down: MixedOperator | None = None
        if stride != STRIDES[-1] and layer < space.layers - 1:
            out_channels = space.channels(2 * stride, 1.0)
            self.down = MixedOperator(in_channels, out_channels, stride=2, operators=space.operators, layers=layers)

    @property
    def outputs(self) -> list[MixedOperator]:
        """What makes the cell's outputs: keep, and down where there is one."""
        return [self.keep] if self.down is None else [self.keep, self.down]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the cell on the maps of its parents.

        Args:
            tensors: For each output (keep, and down where there is one) the weights of its mixture, (parents,
                operators), then for each parent its map, (N, C, H, W).

        Returns:
            The map that stays at the cell's stride and, where there is one, the map at twice the stride.
        """
        weights, maps = tensors[: len(self.outputs)], tensors[len(self.outputs) :]
        source = CellInput(maps)
        return tuple(operator(source, each) for operator, each in zip(self.outputs, weights, strict=True))
