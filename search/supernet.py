"""The supernet: every network of the search space in one, for two architecture sets that share the cells' weights.

A pass runs it for one set at one width mode and gives the logits of all five heads at once. The set decides the
mixture of operators and parents, and has its own stem, fusions and heads.

Source: FasterSeg, sections 3.1 to 3.3.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple, get_args

import torch
from torch import nn

from fasterseg.networks.channels import fusion_channels
from fasterseg.networks.derivation import operator_row, parent_row
from fasterseg.networks.heads import BranchFusion, Head, Stem
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig
from search.cells import Cell, CellInput
from search.parameters import ArchitectureParameters
from search.widths import WidthChoice, WidthMode, choose_widths


class SupernetLogits(NamedTuple):
    """Logits of the five heads, each (N, num_classes, H/8, W/8): one branch alone, or two fused.

    A branch that ends at stride 16 or 32 is fused up to stride 8 before its head.
    """

    branch_8: torch.Tensor
    branch_16: torch.Tensor
    branch_32: torch.Tensor
    branches_32_8: torch.Tensor
    branches_32_16: torch.Tensor


PAIR_HEADS: Mapping[Branches, str] = {(32, 8): "branches_32_8", (32, 16): "branches_32_16"}


class SetParts(nn.Module):
    """What an architecture set has for itself: stem, fusions and the five heads, at the set's stem and head width."""

    def __init__(self, space: SpaceConfig, architecture_set: ArchitectureSet, *, num_classes: int) -> None:
        super().__init__()
        base, width = space.base_channels, space.end_width(architecture_set)
        channels = {stride: space.channels(stride, width) for stride in STRIDES}
        fused = fusion_channels(STRIDES[0], base, width)
        self.stem = Stem(base, width)
        self.fusion_16 = BranchFusion(base, width, map_channels=[channels[16], channels[8]])
        self.fusion_32 = BranchFusion(base, width, map_channels=[channels[32], channels[16], channels[8]])
        self.head_8 = Head(channels[8], num_classes)
        self.head_16 = Head(fused, num_classes)
        self.head_32 = Head(fused, num_classes)
        self.head_32_8 = Head(channels[8] + fused, num_classes)
        self.head_32_16 = Head(2 * fused, num_classes)

    def predict(self, maps: Mapping[int, torch.Tensor]) -> SupernetLogits:
        """The logits of all heads from the last layer's map of each output stride."""
        branch_8 = maps[8]
        branch_16 = self.fusion_16([maps[16], maps[8]])
        branch_32 = self.fusion_32([maps[32], maps[16], maps[8]])
        return SupernetLogits(
            self.head_8(branch_8),
            self.head_16(branch_16),
            self.head_32(branch_32),
            # the order of the published supernet; the derived network concatenates its branches the other way round
            self.head_32_8(torch.cat([branch_8, branch_32], dim=1)),
            self.head_32_16(torch.cat([branch_16, branch_32], dim=1)),
        )


class Mixture:
    """The weights with which one pass adds up operators and parents."""

    def __init__(self, parameters: ArchitectureParameters) -> None:
        probabilities = parameters.probabilities()
        self._operators = {stride: rows.unbind() for stride, rows in probabilities.operators.items()}
        self._parents = {stride: rows.unsqueeze(2).unbind() for stride, rows in probabilities.parents.items()}

    def weights(
        self, layer: int, stride: int, *, num_parents: int, gates: tuple[torch.Tensor | None, ...]
    ) -> torch.Tensor:
        """The weights of a cell's operators, (parents, operators).

        Args:
            layer: Layer of the cell.
            stride: Output stride of the cell.
            num_parents: 1, or 2 for maps that come from (down, keep).
            gates: Gradient carriers of the input's and the output's width.
        """
        weights = self._operators[stride][operator_row(layer, stride)].unsqueeze(0)
        if num_parents == 2:
            weights = weights * self._parents[stride][parent_row(layer, stride)]
        for gate in gates:
            weights = weights if gate is None else weights * gate
        return weights


class Supernet(nn.Module):
    """All cells of the lattice with slimmable weights, and for each architecture set its parameters and its own parts.

    Args:
        space: What can be searched.
        num_classes: Channels of the logits.
    """

    def __init__(self, space: SpaceConfig, num_classes: int) -> None:
        super().__init__()
        self.space = space
        self.num_classes = num_classes
        sets: tuple[ArchitectureSet, ...] = get_args(ArchitectureSet)
        self.architectures = nn.ModuleDict({name: ArchitectureParameters(space, name) for name in sets})
        self.parts = nn.ModuleDict({name: SetParts(space, name, num_classes=num_classes) for name in sets})
        self.cells = nn.ModuleDict(
            {
                _cell_name(layer, stride): Cell(space, layer, stride)
                for layer in range(space.layers)
                for stride in space.strides_at(layer)
            }
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")

    def architecture(self, architecture_set: ArchitectureSet) -> ArchitectureParameters:
        """The parameters of a set."""
        parameters = self.architectures[architecture_set]
        assert isinstance(parameters, ArchitectureParameters)
        return parameters

    def architecture_parameters(self) -> Iterator[nn.Parameter]:
        """What the search's Adam trains: the logits of both sets."""
        return self.architectures.parameters()

    def weights(self) -> Iterator[nn.Parameter]:
        """Everything else: what SGD trains."""
        for part in (self.parts, self.cells):
            yield from part.parameters()

    def forward(self, image: torch.Tensor, architecture_set: ArchitectureSet, width_mode: WidthMode) -> SupernetLogits:
        """One pass.

        Args:
            image: (N, 3, H, W) normalised RGB.
            architecture_set: Whose mixture, stem, fusions and heads.
            width_mode: How wide the maps are; `sampled` follows the set's width logits.

        Returns:
            The logits of the five heads.
        """
        parameters = self.architecture(architecture_set)
        parts = self.parts[architecture_set]
        assert isinstance(parts, SetParts)
        mixture = Mixture(parameters)
        widths = choose_widths(parameters, self.space, architecture_set=architecture_set, mode=width_mode)
        end = WidthChoice(self.space.end_width(architecture_set))
        entering: dict[int, list[torch.Tensor]] = {STRIDES[0]: [parts.stem(image)]}
        for layer in range(self.space.layers):
            leaving: dict[int, list[torch.Tensor]] = {}
            for stride, maps in entering.items():
                cell = self.cells[_cell_name(layer, stride)]
                assert isinstance(cell, Cell)
                source = CellInput(maps)
                in_gate = widths[layer, stride].gate if layer else None
                for operator, out_stride in ((cell.keep, stride), (cell.down, 2 * stride)):
                    if operator is None:
                        continue
                    width = widths.get((layer + 1, out_stride), end)
                    operator.set_out_channels(self.space.channels(out_stride, width.width))
                    weights = mixture.weights(layer, stride, num_parents=cell.num_parents, gates=(in_gate, width.gate))
                    leaving.setdefault(out_stride, []).append(operator(source, weights))
            entering = leaving
        return parts.predict({stride: maps[0] for stride, maps in entering.items()})


def _cell_name(layer: int, stride: int) -> str:
    return f"layer{layer}_stride{stride}"
