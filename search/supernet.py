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
from fasterseg.networks.heads import BranchFusion, Head, Stem
from fasterseg.networks.slimmable import SlimmableConv2d
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig
from search.cells import Cell
from search.concurrency import Part, run_side_by_side
from search.parameters import ArchitectureParameters
from search.relaxation import DrawnMixture, Mixture
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
        (branch_32,), (branch_16, logits_8) = run_side_by_side(
            [
                Part(lambda *maps: (self.fusion_32(maps),), (maps[32], maps[16], maps[8])),
                Part(
                    lambda deep, shallow: (self.fusion_16([deep, shallow]), self.head_8(shallow)), (maps[16], maps[8])
                ),
            ]
        )
        # the order of the published supernet; the derived network concatenates its branches the other way round
        with_16, with_8 = torch.cat([branch_16, branch_32], dim=1), torch.cat([branch_8, branch_32], dim=1)
        (logits_32_16, logits_16), (logits_32_8, logits_32) = run_side_by_side(
            [
                Part(lambda both, alone: (self.head_32_16(both), self.head_16(alone)), (with_16, branch_16)),
                Part(lambda both, alone: (self.head_32_8(both), self.head_32(alone)), (with_8, branch_32)),
            ]
        )
        return SupernetLogits(logits_8, logits_16, logits_32, logits_32_8, logits_32_16)


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
                cell_name(layer, stride): Cell(space, layer, stride)
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

    def cell(self, layer: int, stride: int) -> Cell:
        """The cell of a layer and output stride."""
        cell = self.cells[cell_name(layer, stride)]
        assert isinstance(cell, Cell)
        return cell

    def architecture_parameters(self) -> Iterator[nn.Parameter]:
        """What the search's Adam trains: the logits of both sets."""
        return self.architectures.parameters()

    def weights(self) -> Iterator[nn.Parameter]:
        """Everything else: what SGD trains."""
        for part in (self.parts, self.cells):
            yield from part.parameters()

    def clear_gradients(self, *, keep_memory: bool) -> None:
        """Forgets the gradients of the weights.

        Args:
            keep_memory: Whether those of the cells' convolutions, nearly all of them, become zeros in the same memory.
                That is for steps that reach all of them: an optimizer has to leave alone what a step did not reach, and
                takes a zero for a gradient.
        """
        lasting = []
        for module in self.modules():
            for parameter in module.parameters(recurse=False):
                if keep_memory and isinstance(module, SlimmableConv2d) and parameter.grad is not None:
                    lasting.append(parameter.grad)
                else:
                    parameter.grad = None
        if lasting:
            torch._foreach_zero_(lasting)

    def forward(
        self, image: torch.Tensor, architecture_set: ArchitectureSet, width_mode: WidthMode, *, draws: int = 0
    ) -> SupernetLogits:
        """One pass.

        Args:
            image: (N, 3, H, W) normalised RGB.
            architecture_set: Whose mixture, stem, fusions and heads.
            width_mode: How wide the maps are; `sampled` follows the set's width logits.
            draws: How many operators to draw for each mixture; 0 for all of them, by their probabilities.

        Returns:
            The logits of the five heads.
        """
        parameters = self.architecture(architecture_set)
        parts = self.parts[architecture_set]
        assert isinstance(parts, SetParts)
        mixture = DrawnMixture(parameters, draws) if draws else Mixture(parameters)
        widths = choose_widths(parameters, self.space, architecture_set=architecture_set, mode=width_mode)
        end = WidthChoice(self.space.end_width(architecture_set))
        entering: dict[int, list[torch.Tensor]] = {STRIDES[0]: [parts.stem(image)]}
        for layer in range(self.space.layers):
            runs = {}
            for stride, maps in entering.items():
                cell = self.cell(layer, stride)
                in_gate = widths[layer, stride].gate if layer else None
                weights = []
                for place, operator in enumerate(cell.outputs):
                    out_stride = stride * 2**place
                    width = widths.get((layer + 1, out_stride), end)
                    operator.set_out_channels(self.space.channels(out_stride, width.width))
                    own = mixture.weights(layer, stride, place, gates=(in_gate, width.gate))
                    operator.active = own.operators
                    weights.append(own.weights)
                runs[stride] = Part(cell, (*weights, *maps))
            # the cell with the most work first
            order = sorted(runs, key=lambda stride: len(runs[stride].inputs), reverse=True)
            results = dict(zip(order, run_side_by_side([runs[stride] for stride in order]), strict=True))
            leaving: dict[int, list[torch.Tensor]] = {}
            for stride in entering:
                for out_stride, feature in zip((stride, 2 * stride), results[stride], strict=False):
                    leaving.setdefault(out_stride, []).append(feature)
            entering = leaving
        return parts.predict({stride: maps[0] for stride, maps in entering.items()})


def cell_name(layer: int, stride: int) -> str:
    """The key of a cell in `Supernet.cells`."""
    return f"layer{layer}_stride{stride}"
