"""The expected latency of a random derived network, exact and differentiable in the architecture's probabilities.

One random network: independently one operator per cell, one parent per cell that has two, one width per map. Its time
is the sum of its specifications' table entries under the table's linear correction. The expectation over all choices
is a dynamic program over the lattice of layers and output strides; nothing is sampled. The search's objective contains
it, and `search.fitting` reads the price of every single change off its gradient.

With s for a cell's stride, p for its parent's, and the symbols of the paper for the probabilities:

    V(l, s)   distribution of the width that enters cell (l, s). A kept skip passes its own input's width through:
              V(l, s) = b_down·r(l, s) + b_keep·[a_skip(l-1, s)·V(l-1, s) + (1 - a_skip(l-1, s))·r(l, s)]
    P(l)      joint distribution of the two branches' strides at layer l, from the last layer backward: at different
              strides they choose their parents independently, at the same cell they are one from there on
    u(l, s)   probability that either branch is at (l, s)
    E       = sum of u(l, s)·b(l, s, p)·E[cost of the operator from (l-1, p) to (l, s)]     every edge into (l, s)
              + u(L-1, s)·E[cost of the last cell]                                            to the head width
              + P(a branch leaves stride p at l-1)·E[cost of fusing the map of width V(l-1, p)]
              + stem, projections and resizes of the fusion, feature fusion module, head, final resize
"""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from fasterseg.networks.derivation import FROM_DOWN, FROM_KEEP, SKIP_INDEX
from fasterseg.networks.space import STRIDES, Branches, SpaceConfig, first_layer
from latency.records import Correction
from search.latency_costs import CostTables, EntryCost, LatticeProblem
from search.parameters import ArchitectureProbabilities, TensorByStride

RegularizerForm = Literal["exact", "decoupled"]

# edges between neighbouring layers as (stride of the parent, stride of the cell)
EDGES = ((8, 8), (8, 16), (16, 16), (16, 32), (32, 32))
DECOUPLED_WEIGHTS = {"operators": 1 / 500, "parents": 497 / 500, "widths": 2 / 500}


class ExpectedLatency(nn.Module):
    """Expected milliseconds of the random network, averaged over one or both pairs of branches.

    Args:
        problem: Space, set, classes and input size.
        entry_ms: The table's time of one specification.
        pairs: Pairs of branch ends; the result is the mean over them.
        correction: The table's linear correction.
    """

    _edges: torch.Tensor
    _last: torch.Tensor
    _fusion: torch.Tensor
    _constants: torch.Tensor
    _ends: torch.Tensor

    def __init__(
        self,
        problem: LatticeProblem,
        *,
        entry_ms: EntryCost,
        pairs: tuple[Branches, ...],
        correction: Correction = Correction(),  # noqa: B008 - immutable
    ) -> None:
        super().__init__()
        self.problem = problem
        self.pairs = pairs
        costs = CostTables(problem, lambda spec: correction.slope * entry_ms(spec) + correction.per_operator_ms)
        ends = torch.zeros(len(pairs), 3, 3, dtype=torch.float64)
        for index, (first, second) in enumerate(pairs):
            ends[index, STRIDES.index(first), STRIDES.index(second)] = 1
        constants = [costs.constants(pair) + correction.constant_ms for pair in pairs]
        tables = {
            "_edges": torch.stack([costs.edge(parent, stride) for parent, stride in EDGES]),
            "_last": torch.stack([costs.last(stride) for stride in STRIDES]),
            "_fusion": torch.stack([torch.stack([costs.fusion(end) for end in pair]) for pair in pairs]),
            "_constants": torch.tensor(constants, dtype=torch.float64),
            "_ends": ends,
        }
        for name, tensor in tables.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        """The mean of `per_pair`, a float64 scalar."""
        return self.per_pair(probabilities).mean()

    def per_pair(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        """The expectation in ms for each pair of branches, (pairs,) float64 with gradient in all probabilities."""
        lattice = _Lattice(self.problem.space, probabilities, device=self._ends.device)
        arrivals = lattice.arrivals()
        joint = lattice.joint_strides(self._ends)
        branch_at = torch.stack([joint.sum(dim=3), joint.sum(dim=2)], dim=2)  # (L, pairs, 2, strides)
        either_at = branch_at.sum(dim=2) - joint.diagonal(dim1=2, dim2=3)

        parent = [STRIDES.index(edge[0]) for edge in EDGES]
        cell = [STRIDES.index(edge[1]) for edge in EDGES]
        step_cost = torch.einsum(
            "lto,ltv,ltw,tovw->lt",
            lattice.operators[:-1, parent],
            arrivals[:-1, parent],
            lattice.widths[1:, cell, :-1],
            self._edges,
        )
        steps = lattice.transitions[1:, cell, parent]
        total = torch.einsum("lkt,lt,lt->k", either_at[1:, :, cell], steps, step_cost)
        total = total + torch.einsum("ks,so,sv,sov->k", either_at[-1], lattice.operators[-1], arrivals[-1], self._last)
        downs = lattice.transitions[1:, [1, 2], [0, 1]]  # from stride 8 to 16 and from 16 to 32
        total = total + torch.einsum(
            "lkbs,ls,lsv,kbsv->k", branch_at[1:, ..., 1:], downs, arrivals[:-1, :2], self._fusion
        )
        return total + self._constants


def latency_regularizer(
    expected: ExpectedLatency, probabilities: ArchitectureProbabilities, form: RegularizerForm
) -> torch.Tensor:
    """The latency term of the search's objective in ms.

    `exact` is the expectation itself. `decoupled` is the published form: the expectation taken three times, each with
    one granularity free and the others uniform or at full width, weighted 1/500, 497/500 and 2/500.
    """
    if form == "exact":
        exact: torch.Tensor = expected(probabilities)
        return exact
    terms = [weight * expected(probabilities.decoupled(free)) for free, weight in DECOUPLED_WEIGHTS.items()]
    return torch.stack(terms).sum()


class _Lattice:
    """The probabilities as dense float64 tensors over (layer, stride), zero where there is no cell.

    The last width is the stem's own: a skip passes it on from the first cell.
    """

    def __init__(self, space: SpaceConfig, probabilities: ArchitectureProbabilities, *, device: torch.device) -> None:
        self.layers, self.device = space.layers, device
        first = {stride: first_layer(stride) for stride in STRIDES}
        self.operators = self._dense(probabilities.operators)
        self.widths = functional.pad(self._dense(probabilities.widths), (0, 1))
        # a stride's first cell is reached from above only, stride 8 is always kept
        forced = torch.zeros(self.layers, 3, 2, dtype=torch.float64, device=device)
        forced[1:, 0, FROM_KEEP] = 1
        for stride in STRIDES[1:]:
            forced[first[stride], STRIDES.index(stride), FROM_DOWN] = 1
        no_choice = probabilities.parents[16].new_zeros((0, 2))
        self.parents = forced + self._dense({8: no_choice, **probabilities.parents})

    def _dense(self, rows: TensorByStride) -> torch.Tensor:
        """(layers, strides, choices), rows of each stride at the last layers."""
        padded = [
            functional.pad(rows[stride].to(self.device, torch.float64), (0, 0, self.layers - len(rows[stride]), 0))
            for stride in STRIDES
        ]
        return torch.stack(padded, dim=1)

    @property
    def transitions(self) -> torch.Tensor:
        """(layers, stride, parent's stride): the probability of each parent."""
        keep = torch.diag_embed(self.parents[..., FROM_KEEP])
        return keep + torch.diag_embed(self.parents[:, 1:, FROM_DOWN], offset=-1)

    def arrivals(self) -> torch.Tensor:
        """(layers, strides, widths + stem): the distribution of the width that enters each cell."""
        stem = torch.zeros_like(self.widths[0])
        stem[0, -1] = 1
        passed_on = torch.cat([torch.zeros_like(self.parents[:1, :, FROM_KEEP]), self.operators[:-1, :, SKIP_INDEX]])
        passed_on = (passed_on * self.parents[..., FROM_KEEP]).unsqueeze(2)
        chosen = (1 - passed_on) * self.widths
        arrivals = [stem]
        for layer in range(1, self.layers):
            arrivals.append(torch.addcmul(chosen[layer], passed_on[layer], arrivals[-1]))
        return torch.stack(arrivals)

    def joint_strides(self, ends: torch.Tensor) -> torch.Tensor:
        """(layers, pairs, first branch's stride, second branch's stride): where the two branches are together.

        Args:
            ends: (pairs, strides, strides), one-hot at the branches' ends.
        """
        transitions = self.transitions
        joint = [ends]
        for layer in range(self.layers - 1, 0, -1):
            step = transitions[layer]
            together = joint[-1].diagonal(dim1=1, dim2=2)
            apart = joint[-1] - torch.diag_embed(together)
            joint.append(step.T @ apart @ step + torch.diag_embed(together @ step))
        return torch.stack(joint[::-1])
