"""The latency table's entries as dense tensors, indexed as the expected latency's programme needs them.

Every specification that a network of the space can have is asked for; a table that lacks one says so itself.
"""

from collections.abc import Callable, Iterator

import torch

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.reachable import ReachableSpecs
from fasterseg.networks.space import STRIDES, Branches

EntryCost = Callable[[OperatorSpec], float]
# what the costs are costs of: the specifications of one architecture set
LatticeProblem = ReachableSpecs


class CostTables:
    """Costs of one architecture set's specifications by operator and widths.

    Width axes of inputs have one index more than there are widths: the stem's map, which a skip passes on.

    Args:
        problem: Space, set, classes and input size.
        cost: The cost of one specification.
    """

    def __init__(self, problem: LatticeProblem, cost: EntryCost) -> None:
        self.cost = cost
        self.specs = problem

    def edge(self, scale: int, out_scale: int) -> torch.Tensor:
        """(operators, input widths + stem, output widths) of a cell's operators; 0 for a skip that keeps the stride.

        All 0 where the space is too shallow for such an edge.
        """
        return self._operators(self.specs.cells(scale, out_scale), self.specs.widths)

    def last(self, scale: int) -> torch.Tensor:
        """(operators, input widths + stem) of a branch's last cell, which puts out the head width."""
        return self._operators(self.specs.last_cells(scale), (self.specs.end_width,)).squeeze(2)

    def fusion(self, end: int) -> torch.Tensor:
        """(strides 8 and 16, widths + stem): a branch's refinement at each stride it leaves, by its map's width."""
        costs = torch.zeros(2, len(self.specs.widths) + 1, dtype=torch.float64)
        for step in self.specs.fusion_steps(end):
            for column, channels in enumerate(self.specs.map_channels(step.shallow_scale)):
                *_, refine = self.specs.fusion_specs(step, channels)
                costs[STRIDES.index(step.shallow_scale), column] = self.cost(refine)
        return costs

    def constants(self, pair: Branches) -> float:
        """What every network of a pair of branches costs: stem, projections, resizes, and what follows the fusion."""
        specs = list(self.specs.stem())
        for end in pair:
            for step in self.specs.fusion_steps(end):
                *fixed, _ = self.specs.fusion_specs(step, step.out_channels)
                specs += fixed
        specs += self.specs.tail(pair)
        return sum(self.cost(spec) for spec in specs)

    def _operators(self, cells: Iterator[CellChoice], out_widths: tuple[float, ...]) -> torch.Tensor:
        operators = self.specs.space.operators
        costs = torch.zeros(len(operators), len(self.specs.widths) + 1, len(out_widths), dtype=torch.float64)
        for cell in cells:
            index, column = operators.index(cell.operator), out_widths.index(cell.width)
            for row, spec in enumerate(self.specs.cell_specs(cell)):
                costs[index, row, column] = self.cost(spec)
        return costs
