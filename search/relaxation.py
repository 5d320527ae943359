"""The weights of operators and parents in a pass's weighted sums.

`Mixture` has all operators, by their probabilities, as published. `DrawnMixture` has a few for each mixed operator, at
random: the search then costs what the networks cost that it draws.
"""

from typing import NamedTuple

import torch

from fasterseg.networks.derivation import operator_row, parent_row
from fasterseg.networks.space import STRIDES
from search.cells import num_parents
from search.parameters import ArchitectureParameters

Gates = tuple[torch.Tensor | None, ...]

# a cell's mixed operators: keep and down
_PLACES = 2


class MixtureWeights(NamedTuple):
    """The weights of one mixed operator.

    Attributes:
        operators: Which operators of the space to run.
        weights: (parents, operators to run).
    """

    operators: tuple[int, ...]
    weights: torch.Tensor


class Mixture:
    """All operators, by their probabilities.

    Args:
        parameters: The architecture set's.
    """

    def __init__(self, parameters: ArchitectureParameters) -> None:
        probabilities = parameters.probabilities()
        self._operators = {stride: rows.unbind() for stride, rows in probabilities.operators.items()}
        self._parents = {stride: rows.unsqueeze(2).unbind() for stride, rows in probabilities.parents.items()}

    def weights(self, layer: int, stride: int, place: int, *, gates: Gates) -> MixtureWeights:
        """The weights of a cell's mixed operator.

        Args:
            layer: Layer of the cell.
            stride: Output stride of the cell.
            place: 0 for the one that keeps the stride, 1 for the one that doubles it.
            gates: Gradient carriers of the input's and the output's width.
        """
        chosen, weights = self._choose(operator_row(layer, stride), stride, place)
        weights = weights.unsqueeze(0)
        if num_parents(layer, stride) == 2:
            weights = weights * self._parents[stride][parent_row(layer, stride)]
        for gate in gates:
            weights = weights if gate is None else weights * gate
        return MixtureWeights(chosen, weights)

    def _choose(self, row: int, stride: int, place: int) -> tuple[tuple[int, ...], torch.Tensor]:  # noqa: ARG002
        """The operators to run for a row of the probabilities, and their weights."""
        weights = self._operators[stride][row]
        return tuple(range(len(weights))), weights


class DrawnMixture(Mixture):
    """A few operators for each mixed operator, drawn by their probabilities p: the largest logits under Gumbel noise.

    A draw k has weight p_k / p_k, the divisor without gradient (straight-through): 1 in value, the gradient of log p_k.
    Given the maps that enter, a mixed operator's output over the draws is on average that of the full mixture, and so
    is its gradient in the operators' logits: unbiased. What is biased: cells, batch norms and losses that follow are
    not linear in that output, so the loss of a whole network and its gradient are the full mixture's to first order
    only, and operators train on the maps of single operators instead of mixtures. The networks that a search derives
    are of single operators.

    Args:
        parameters: The architecture set's.
        draws: How many operators to draw, with replacement; what is drawn twice runs once with twice the weight.
    """

    def __init__(self, parameters: ArchitectureParameters, draws: int) -> None:
        super().__init__(parameters)
        self._draws = draws
        self._drawn: dict[int, list[list[list[int]]]] = {}
        for stride in STRIDES:
            logits = parameters.operator_logits[str(stride)].detach()
            noise = torch.empty((_PLACES, draws, *logits.shape), device=logits.device).exponential_().log()
            self._drawn[stride] = (logits - noise).argmax(dim=3).permute(0, 2, 1).tolist()

    def _choose(self, row: int, stride: int, place: int) -> tuple[tuple[int, ...], torch.Tensor]:
        drawn = self._drawn[stride][place][row]
        chosen = tuple(sorted(set(drawn)))
        probabilities = self._operators[stride][row][list(chosen)]
        shares = probabilities.new_tensor([drawn.count(index) / self._draws for index in chosen])
        return chosen, shares * (probabilities / probabilities.detach())
