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
from latency.correction import Correction
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
        return self._evaluate(_Lattice.of(self.problem.space, probabilities, device=self._ends.device))[0]

    def decoupled(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        """The mean over the pairs with one group of choices as it is, the others uniform or at full width.

        Returns:
            (3,) float64: operators, parents, widths free.

        Source: the released program's regulariser.
        """
        lattice = _Lattice.of(self.problem.space, probabilities, device=self._ends.device)
        return self._evaluate(lattice.decoupled()).mean(dim=1)

    def _evaluate(self, lattice: "_Lattice") -> torch.Tensor:
        """(batch, pairs): the expectation of every lattice of a batch."""
        arrivals = lattice.arrivals()
        joint = lattice.joint_strides(self._ends)
        branch_at = torch.stack([joint.sum(dim=4), joint.sum(dim=3)], dim=3)  # (batch, L, pairs, 2, strides)
        either_at = branch_at.sum(dim=3) - joint.diagonal(dim1=3, dim2=4)

        parent = [STRIDES.index(edge[0]) for edge in EDGES]
        cell = [STRIDES.index(edge[1]) for edge in EDGES]
        transitions = lattice.transitions[:, 1:]
        step_cost = torch.einsum("tovw,blto->bltvw", self._edges, lattice.operators[:, :-1, parent])
        step_cost = (step_cost @ lattice.widths[:, 1:, cell, :-1, None]).squeeze(4)
        step_cost = (step_cost * arrivals[:, :-1, parent]).sum(dim=3) * transitions[:, :, cell, parent]
        total = torch.einsum("blkt,blt->bk", either_at[:, 1:, :, cell], step_cost)
        last_cost = torch.einsum("sov,bsv->bso", self._last, arrivals[:, -1])
        last_cost = (last_cost * lattice.operators[:, -1]).sum(dim=2)
        total = total + torch.einsum("bks,bs->bk", either_at[:, -1], last_cost)
        downs = transitions[:, :, [1, 2], [0, 1]]  # from stride 8 to 16 and from 16 to 32
        fusion_cost = torch.einsum("kesv,blsv->blkes", self._fusion, arrivals[:, :-1, :2])
        total = total + torch.einsum("blkes,bls,blkes->bk", branch_at[:, 1:, ..., 1:], downs, fusion_cost)
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
    terms = expected.decoupled(probabilities)
    return terms @ terms.new_tensor(list(DECOUPLED_WEIGHTS.values()))


class _Lattice:
    """A batch of probabilities as dense float64 tensors over (layer, stride), zero where there is no cell.

    The last width is the stem's own: a skip passes it on from the first cell.

    Attributes:
        operators: (batch, layers, strides, operators).
        parents: (batch, layers, strides, 2).
        widths: (batch, layers, strides, widths + stem).
    """

    def __init__(self, operators: torch.Tensor, parents: torch.Tensor, widths: torch.Tensor) -> None:
        self.operators, self.parents, self.widths = operators, parents, widths

    @staticmethod
    def of(space: SpaceConfig, probabilities: ArchitectureProbabilities, *, device: torch.device) -> "_Lattice":
        """The lattice of one set of probabilities, a batch of one."""
        layers = space.layers
        operators = _dense(probabilities.operators, layers, device)
        widths = functional.pad(_dense(probabilities.widths, layers, device), (0, 1))
        # a stride's first cell is reached from above only, stride 8 is always kept
        forced = torch.zeros(layers, 3, 2, dtype=torch.float64)
        forced[1:, 0, FROM_KEEP] = 1
        for stride in STRIDES[1:]:
            forced[first_layer(stride), STRIDES.index(stride), FROM_DOWN] = 1
        no_choice = probabilities.parents[16].new_zeros((0, 2))
        parents = forced.to(device) + _dense({8: no_choice, **probabilities.parents}, layers, device)
        return _Lattice(operators.unsqueeze(0), parents.unsqueeze(0), widths.unsqueeze(0))

    def decoupled(self) -> "_Lattice":
        """A batch of three: only the operators, only the parents, only the widths as they are in this lattice of one.

        The others are uniform over what there is to choose from, and at full width.
        """
        layer = torch.arange(self.operators.shape[1], device=self.operators.device).view(1, -1, 1, 1)
        first = torch.arange(len(STRIDES), device=layer.device).view(1, 1, -1, 1)
        exists, has_map = layer >= first, layer >= first.clamp(min=1)
        two_parents = (layer > first) & (first > 0)
        others = (
            (exists / self.operators.shape[3]).expand_as(self.operators),
            self.parents.detach().where(~two_parents, 0.5),
            functional.pad(has_map.double(), (self.widths.shape[3] - 2, 1)),
        )
        own = self.operators, self.parents, self.widths
        return _Lattice(
            *(
                torch.cat([mine if row == group else other for row in range(3)])
                for group, (mine, other) in enumerate(zip(own, others, strict=True))
            )
        )

    @property
    def transitions(self) -> torch.Tensor:
        """(batch, layers, stride, parent's stride): the probability of each parent."""
        keep = torch.diag_embed(self.parents[..., FROM_KEEP])
        return keep + torch.diag_embed(self.parents[..., 1:, FROM_DOWN], offset=-1)

    def arrivals(self) -> torch.Tensor:
        """(batch, layers, strides, widths + stem): the distribution of the width that enters each cell."""
        stem = torch.zeros_like(self.widths[:, 0])
        stem[:, 0, -1] = 1
        passed_on = self.operators[:, :-1, :, SKIP_INDEX] * self.parents[:, 1:, :, FROM_KEEP]
        passed_on = passed_on.unsqueeze(3)
        chosen = ((1 - passed_on) * self.widths[:, 1:]).unbind(1)
        arrivals = [stem]
        for fresh, share in zip(chosen, passed_on.unbind(1), strict=True):
            arrivals.append(torch.addcmul(fresh, share, arrivals[-1]))
        return torch.stack(arrivals, dim=1)

    def joint_strides(self, ends: torch.Tensor) -> torch.Tensor:
        """(batch, layers, pairs, first branch's stride, second's): where the two branches are together.

        Args:
            ends: (pairs, strides, strides), one-hot at the branches' ends.
        """
        step = self.transitions[:, 1:]
        count = len(STRIDES)
        # from (a, b) to (c, d): each branch by itself where they are apart, as one where they are together
        together = torch.eye(count, dtype=ends.dtype, device=ends.device)
        apart = torch.einsum("nlac,nlbd,ab->nlabcd", step, step, 1 - together)
        joined = torch.einsum("nlac,ab,cd->nlabcd", step, together, together)
        steps = (apart + joined).flatten(4).flatten(2, 3).unbind(1)
        joint = [ends.flatten(1).expand(len(self.parents), -1, -1)]
        for move in reversed(steps):
            joint.append(joint[-1] @ move)
        joints = torch.stack(joint[::-1], dim=1)
        return joints.view(*joints.shape[:3], count, count)


def _dense(rows: TensorByStride, layers: int, device: torch.device) -> torch.Tensor:
    """(layers, strides, choices), rows of each stride at the last layers."""
    padded = [functional.pad(rows[stride], (0, 0, layers - len(rows[stride]), 0)) for stride in STRIDES]
    return torch.stack(padded, dim=1).to(device, torch.float64)
