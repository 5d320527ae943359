"""The architecture parameters: what the search learns besides weights, one set for the teacher, one for the student.

The supernet mixes its operators with their softmax, the expected latency is a function of it, and
`fasterseg.networks.derivation` turns the logits into an architecture.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import nn

from fasterseg.networks.derivation import ArchitectureLogits
from fasterseg.networks.space import STRIDES, ArchitectureSet, SpaceConfig, first_layer

INITIAL_LOGIT = 1e-3
TensorByStride = Mapping[int, torch.Tensor]


class ArchitectureProbabilities(NamedTuple):
    """Probabilities of every choice of one architecture set; rows as in `ArchitectureLogits`.

    Attributes:
        operators: (cells, operators) by output stride.
        parents: (cells with two parents, 2) for strides 16 and 32; columns (down, keep).
        widths: (maps that enter a cell, widths) by output stride.
    """

    operators: TensorByStride
    parents: TensorByStride
    widths: TensorByStride


class ArchitectureParameters(nn.Module):
    """The logits of one architecture set.

    Operator logits (alpha in the paper) belong to a cell and hold for its keep and its down operator; parent logits
    (beta) to a cell with two parents; width logits (ratio) to the map that enters a cell at layer 1 or later.

    Args:
        space: What is searched.
        architecture_set: The teacher has a single width.
    """

    def __init__(self, space: SpaceConfig, architecture_set: ArchitectureSet) -> None:
        super().__init__()
        num_widths = len(space.set_widths(architecture_set))

        def logits(first: dict[int, int], choices: int) -> nn.ParameterDict:
            rows = {str(stride): space.layers - layer for stride, layer in first.items()}
            return nn.ParameterDict(
                {stride: nn.Parameter(torch.full((count, choices), INITIAL_LOGIT)) for stride, count in rows.items()}
            )

        self.operator_logits = logits({s: first_layer(s) for s in STRIDES}, len(space.operators))
        self.parent_logits = logits({s: first_layer(s) + 1 for s in STRIDES[1:]}, 2)
        self.width_logits = logits({s: max(1, first_layer(s)) for s in STRIDES}, num_widths)

    def probabilities(self) -> ArchitectureProbabilities:
        """The softmax of all logits, with their gradient."""
        return ArchitectureProbabilities(
            *({int(stride): rows.softmax(dim=1) for stride, rows in group.items()} for group in self._groups())
        )

    def logits(self) -> ArchitectureLogits:
        """The logits as NumPy arrays, for derivation and plots."""
        return ArchitectureLogits(
            *(
                {int(stride): rows.detach().cpu().numpy().copy() for stride, rows in group.items()}
                for group in self._groups()
            )
        )

    def _groups(self) -> tuple[nn.ParameterDict, nn.ParameterDict, nn.ParameterDict]:
        return self.operator_logits, self.parent_logits, self.width_logits


def choice_entropies(parameters: ArchitectureParameters) -> dict[str, float]:
    """How undecided the choices are, 0 (decided) to 1 (uniform), averaged over the rows of each group."""
    entropies = {}
    for group, by_stride in parameters.probabilities()._asdict().items():
        rows = [-(p * p.clamp_min(1e-30).log()).sum(dim=1).detach() for p in by_stride.values()]
        choices = next(iter(by_stride.values())).shape[1]
        if choices > 1:
            entropies[group] = float(torch.cat(rows).mean()) / math.log(choices)
    return entropies
