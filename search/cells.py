"""The supernet's cells: every operator of the space side by side, mixed by the architecture's probabilities."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from fasterseg.networks.operators import Operator, ZoomedOperator, operator_class
from fasterseg.networks.resizing import Size, halved, map_size, resize_bilinear
from fasterseg.networks.slimmable import LayerFactory, SlimmableBatchNorm2d, SlimmableLayers
from fasterseg.networks.space import STRIDES, SpaceConfig, first_layer
from search.mixing import can_mix_convolved, mix_convolved, mix_finished


class CellInput:
    """The input maps of a cell, concatenated into one batch. Their half size is computed once for all zoomed operators.

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
    """All operators of the space between two maps; the output is their weighted sum.

    The maps of both parents go through the operators in one batch; each half has batch norm statistics of its own.

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
        self.active = tuple(range(len(operators)))
        # plain lists, found once
        self._operators = [operator for operator in self.operators if isinstance(operator, Operator)]
        self._inner_norms = [
            [
                module
                for module in operator.modules()
                if isinstance(module, SlimmableBatchNorm2d) and module is not operator.last_norm
            ]
            for operator in self._operators
        ]

    def select(self, out_channels: int, operators: tuple[int, ...]) -> None:
        """Sets the width of the output and the operators that run from now on."""
        self.active = operators
        for index in operators:
            self._operators[index].set_out_channels(out_channels)

    def forward(self, source: CellInput, weights: torch.Tensor) -> torch.Tensor:
        """Mixes the operators' results over all parents.

        Args:
            source: The maps of the cell's parents.
            weights: (parents, active operators).

        Returns:
            (N, active output channels, ceil(H / stride), ceil(W / stride)).
        """
        (output,) = self.mix(source, [weights])
        return output

    def mix(self, source: CellInput, weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Mixes the operators' results over all parents, for several passes that run as one batch.

        Args:
            source: The maps of the cell's parents in the first pass, then those in the second.
            weights: For each pass (parents, active operators).

        Returns:
            What `forward` returns, for each pass.
        """
        operators = [self._operators[index] for index in self.active]
        batch_parts = sum(map(len, weights))
        for index in self.active:
            for norm in self._inner_norms[index]:
                if norm.batch_parts != batch_parts:
                    norm.batch_parts = batch_parts
        convolved = [
            operator.convolve(source.half if isinstance(operator, ZoomedOperator) else source.feature)
            for operator in operators
        ]
        if len(weights) == 1:
            return [self._finish(operators, convolved, weights[0], source.size)]
        shares = zip(*(each.chunk(len(weights)) for each in convolved), strict=True)
        return [self._finish(operators, share, own, source.size) for share, own in zip(shares, weights, strict=True)]

    def _finish(
        self, operators: Sequence[Operator], convolved: Sequence[torch.Tensor], weights: torch.Tensor, size: Size
    ) -> torch.Tensor:
        """The mixture of one pass, from what the operators' last convolutions gave."""
        if self.training and can_mix_convolved(convolved[0]):
            return mix_convolved(operators, convolved, weights, size)
        finished = [each.finish(feature, size) for each, feature in zip(operators, convolved, strict=True)]
        return mix_finished(finished, weights)


def num_parents(layer: int, stride: int) -> int:
    """How many maps enter a cell: 2 (down, keep), but 1 at stride 8 and at a stride's first layer."""
    return 2 if stride > STRIDES[0] and layer > first_layer(stride) else 1


class Cell(nn.Module):
    """One node of the lattice, with an output at the same stride ("keep") and one at twice the stride ("down").

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

    def forward(self, batches: Sequence["CellBatch"], *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Runs the cell for one or several passes.

        Args:
            batches: The passes, grouped; a group runs as one batch.
            tensors: For each pass of each batch, for each output (keep, and down where there is one) the weights of its
                mixture, (parents, operators), then for each parent its map, (N, C, H, W).

        Returns:
            For each pass the map that stays at the cell's stride and, where there is one, the map at twice the stride.
        """
        remaining = iter(tensors)
        left: list[torch.Tensor] = []
        for batch in batches:
            weights, maps = [], []
            for _ in range(batch.passes):
                weights.append([next(remaining) for _ in self.outputs])
                maps += [next(remaining) for _ in range(self.num_parents)]
            source = CellInput(maps)
            mixed = []
            for place, operator in enumerate(self.outputs):
                operator.select(batch.out_channels[place], batch.operators[place])
                mixed.append(operator.mix(source, [own[place] for own in weights]))
            left += [output for outputs in zip(*mixed, strict=True) for output in outputs]
        return tuple(left)


class CellBatch(NamedTuple):
    """Passes that run through a cell as one batch.

    Attributes:
        passes: How many.
        in_channels: Of the maps that enter.
        out_channels: Of each output.
        operators: Which operators run for each output, by index.
    """

    passes: int
    in_channels: int
    out_channels: tuple[int, ...]
    operators: tuple[tuple[int, ...], ...]
