"""The latency table's entries as dense tensors, indexed as the expected latency's programme needs them.

Every specification that a network of the space can have is asked for; a table that lacks one says so itself.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.derivation import SKIP_INDEX
from fasterseg.networks.derived import cell_spec, fusion_specs, stem_specs, tail_specs
from fasterseg.networks.heads import fused_channels, stem_channels
from fasterseg.networks.resizing import Size
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig, first_layer
from fasterseg.networks.specs import OperatorSpec

EntryCost = Callable[[OperatorSpec], float]


class LatticeProblem(NamedTuple):
    """What the costs are costs of.

    Attributes:
        space: The search space.
        architecture_set: Whose widths and ends.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.
    """

    space: SpaceConfig
    architecture_set: ArchitectureSet
    num_classes: int
    input_size: Size


class FusionStep(NamedTuple):
    """One step of a branch's fusion: from `deep_channels` at twice `shallow_scale` to `out_channels` there."""

    shallow_scale: int
    deep_channels: int
    out_channels: int


class CostTables:
    """Costs of one architecture set's specifications by operator and widths.

    Width axes of inputs have one place more than there are widths: the stem's map, which a skip passes on.

    Args:
        problem: Space, set, classes and input size.
        cost: The cost of one specification.
    """

    def __init__(self, problem: LatticeProblem, cost: EntryCost) -> None:
        self.problem = problem
        self.cost = cost
        space = problem.space
        self.end_width = space.end_width(problem.architecture_set)
        self.widths = space.set_widths(problem.architecture_set)
        self._stem_channels = stem_channels(space.base_channels, self.end_width)[-1]

    def edge(self, scale: int, out_scale: int) -> torch.Tensor:
        """(operators, input widths + stem, output widths) of a cell's operators; 0 for a skip that keeps the stride."""
        if first_layer(scale) > self.problem.space.layers - 2:
            # the space is too shallow for such an edge; the table need not have its entries
            return torch.zeros(len(self.problem.space.operators), len(self.widths) + 1, len(self.widths)).double()
        return self._operators(scale, out_scale, self.widths, first_operator=SKIP_INDEX + (scale == out_scale))

    def last(self, scale: int) -> torch.Tensor:
        """(operators, input widths + stem) of a branch's last cell, which puts out the head width."""
        return self._operators(scale, scale, (self.end_width,), first_operator=SKIP_INDEX).squeeze(2)

    def fusion(self, end: int) -> torch.Tensor:
        """(strides 8 and 16, widths + stem): a branch's refinement at each stride it leaves, by its map's width."""
        costs = torch.zeros(2, len(self.widths) + 1, dtype=torch.float64)
        for step in self._fusion_steps(end):
            for column, channels in enumerate(self._map_channels(step.shallow_scale)):
                *_, refine = self._fusion_specs(step, channels)
                costs[STRIDES.index(step.shallow_scale), column] = self.cost(refine)
        return costs

    def constants(self, pair: Branches) -> float:
        """What every network of a pair of branches costs: stem, projections, resizes, and what follows the fusion."""
        problem, space = self.problem, self.problem.space
        specs = list(stem_specs(space.base_channels, self.end_width, input_size=problem.input_size))
        channels = 0
        for end in pair:
            out_channels = space.channels(end, self.end_width)
            for step in self._fusion_steps(end):
                *fixed, _ = self._fusion_specs(step, step.out_channels)
                specs += fixed
                out_channels = step.out_channels
            channels += out_channels
        specs += tail_specs(channels, problem.num_classes, input_size=problem.input_size)
        return sum(self.cost(spec) for spec in specs)

    def _map_channels(self, stride: int) -> list[int]:
        """Channels of a map at each width and, at stride 8, of the stem's."""
        channels = [self.problem.space.channels(stride, width) for width in self.widths]
        return channels + ([self._stem_channels] if stride == STRIDES[0] else [])

    def _operators(self, scale: int, out_scale: int, widths: tuple[float, ...], *, first_operator: int) -> torch.Tensor:
        space = self.problem.space
        costs = torch.zeros(len(space.operators), len(self.widths) + 1, len(widths), dtype=torch.float64)
        for index, operator in enumerate(space.operators[first_operator:], start=first_operator):
            for column, width in enumerate(widths):
                cell = CellChoice(operator, scale=scale, stride=out_scale // scale, width=width)
                for row, channels in enumerate(self._map_channels(scale)):
                    out_channels = space.channels(out_scale, width)
                    spec = cell_spec(cell, channels, out_channels, input_size=self.problem.input_size)
                    costs[index, row, column] = self.cost(spec)
        return costs

    def _fusion_steps(self, end: int) -> Iterator[FusionStep]:
        space = self.problem.space
        deep_channels, scale = space.channels(end, self.end_width), end
        for out_channels in fused_channels(space.base_channels, self.end_width, steps=STRIDES.index(end)):
            scale //= 2
            yield FusionStep(scale, deep_channels, out_channels)
            deep_channels = out_channels

    def _fusion_specs(self, step: FusionStep, shallow_channels: int) -> Iterator[OperatorSpec]:
        return fusion_specs(
            step.deep_channels,
            shallow_channels,
            out_channels=step.out_channels,
            deep_scale=2 * step.shallow_scale,
            input_size=self.problem.input_size,
        )
