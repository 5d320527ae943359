"""The search written plainly: what the fast step is tested and measured against. For tests and benchmarks only.

Every operator of a cell is called by itself on each of its inputs (3,444 convolutions in the four passes of a search of
16 layers, as the published arrangement has them), a narrow convolution slices its weight, the passes are added up into
one loss with one backward pass, the architecture's step computes the weights' gradients too, and the expected latency
is summed up specification by specification. State dicts fit those of `search.supernet`.
"""

from collections.abc import Mapping, Sequence
from typing import get_args

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional

from fasterseg.engine.losses import OhemCrossEntropy, subsample_labels
from fasterseg.networks.channels import make_divisible
from fasterseg.networks.derivation import FROM_DOWN, FROM_KEEP, SKIP_INDEX, operator_row, parent_row, width_row
from fasterseg.networks.operators import Operator, operator_class
from fasterseg.networks.resizing import map_size, resize_bilinear
from fasterseg.networks.slimmable import SlimmableBatchNorm2d, SlimmableConv2d
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig
from search.cells import num_parents
from search.expected_latency import DECOUPLED_WEIGHTS, EDGES
from search.latency_costs import CostTables, EntryCost, LatticeProblem
from search.parameters import ArchitectureParameters, ArchitectureProbabilities
from search.supernet import Pass, SetParts, SupernetLogits, cell_name
from search.widths import WidthChoice, WidthMode, choose_widths


class ReferenceLayers:
    """The factory of the reference's layers; see `fasterseg.networks.slimmable.LayerFactory`."""

    def __init__(self, widths: Sequence[float]) -> None:
        self.widths = tuple(widths)

    def conv(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> nn.Module:
        """See `LayerFactory.conv`."""
        return SlimmableConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride, in_place=False)

    def norm(self, channels: int) -> nn.Module:
        """See `LayerFactory.norm`."""
        return SlimmableBatchNorm2d([make_divisible(channels * width) for width in self.widths])


class ReferenceMixture(nn.Module):
    """All operators of the space between two maps, one after the other."""

    def __init__(self, space: SpaceConfig, scale: int, out_scale: int) -> None:
        super().__init__()
        in_channels, out_channels = space.channels(scale, 1.0), space.channels(out_scale, 1.0)
        layers = ReferenceLayers(space.widths)
        self.operators = nn.ModuleList(
            operator_class(name)(in_channels, out_channels, stride=out_scale // scale, layers=layers)
            for name in space.operators
        )

    def forward(self, feature: torch.Tensor, weights: torch.Tensor, out_channels: int) -> torch.Tensor:
        """The weighted sum of the operators' outputs."""
        total = torch.zeros(())
        for operator, weight in zip(self.operators, weights, strict=True):
            assert isinstance(operator, Operator)
            operator.set_out_channels(out_channels)
            total = total + weight * operator(feature)
        return total


class ReferenceSupernet(nn.Module):
    """The supernet, plainly; see `search.supernet.Supernet`."""

    def __init__(self, space: SpaceConfig, num_classes: int) -> None:
        super().__init__()
        self.space = space
        sets: tuple[ArchitectureSet, ...] = get_args(ArchitectureSet)
        self.architectures = nn.ModuleDict({name: ArchitectureParameters(space, name) for name in sets})
        self.parts = nn.ModuleDict({name: SetParts(space, name, num_classes=num_classes) for name in sets})
        self.cells = nn.ModuleDict()
        for layer in range(space.layers):
            for stride in space.strides_at(layer):
                cell = nn.ModuleDict({"keep": ReferenceMixture(space, stride, stride)})
                if stride != STRIDES[-1] and layer < space.layers - 1:
                    cell["down"] = ReferenceMixture(space, stride, 2 * stride)
                self.cells[cell_name(layer, stride)] = cell

    def forward(self, image: torch.Tensor, architecture_set: ArchitectureSet, width_mode: WidthMode) -> SupernetLogits:
        """One pass; see `Supernet.forward`."""
        space, parameters, parts = self.space, self.architectures[architecture_set], self.parts[architecture_set]
        assert isinstance(parameters, ArchitectureParameters) and isinstance(parts, SetParts)
        probabilities = parameters.probabilities()
        widths = choose_widths(parameters, space, architecture_set=architecture_set, mode=width_mode)
        end = WidthChoice(space.end_width(architecture_set))
        entering = {(STRIDES[0], FROM_KEEP): parts.stem(image)}
        for layer in range(space.layers):
            leaving: dict[tuple[int, int], torch.Tensor] = {}
            for stride in space.strides_at(layer):
                cell = self.cells[cell_name(layer, stride)]
                assert isinstance(cell, nn.ModuleDict)
                weights = probabilities.operators[stride][operator_row(layer, stride)]
                in_gate = widths[layer, stride].gate if layer else None
                for name, direction, out_stride in (("keep", FROM_KEEP, stride), ("down", FROM_DOWN, 2 * stride)):
                    if name not in cell:
                        continue
                    width = widths.get((layer + 1, out_stride), end)
                    gated = weights
                    for gate in (in_gate, width.gate):
                        gated = gated if gate is None else gated * gate
                    channels = space.channels(out_stride, width.width)
                    # one run for each parent; their results are added up by the parents' weights
                    outputs = {
                        parent: cell[name](entering[stride, parent], gated, channels)
                        for parent in (FROM_DOWN, FROM_KEEP)
                        if (stride, parent) in entering
                    }
                    if num_parents(layer, stride) == 1:
                        (output,) = outputs.values()
                    else:
                        row = probabilities.parents[stride][parent_row(layer, stride)]
                        output = row[FROM_DOWN] * outputs[FROM_DOWN] + row[FROM_KEEP] * outputs[FROM_KEEP]
                    leaving[out_stride, direction] = output
            entering = leaving
        return parts.predict({stride: entering[stride, FROM_KEEP] for stride in STRIDES})

    def architecture_parameters(self) -> list[nn.Parameter]:
        """The logits of both sets."""
        return list(self.architectures.parameters())

    def weights(self) -> list[nn.Parameter]:
        """Everything else."""
        return [*self.parts.parameters(), *self.cells.parameters()]


class ReferenceStep:
    """The gradients of pretraining and search, plainly: one loss of all passes, one backward pass.

    Args:
        supernet: In training mode.
        criterion: The loss of one head.
        fabric: Device and precision.
        label_stride: Stride of the labels; see `search.config.SupernetTrainConfig`.
    """

    def __init__(
        self, supernet: ReferenceSupernet, *, criterion: OhemCrossEntropy, fabric: Fabric, label_stride: int = 8
    ) -> None:
        self.supernet = supernet
        self.fabric = fabric
        self.criterion = criterion
        self.label_stride = label_stride

    def weights_gradients(self, image: torch.Tensor, label: torch.Tensor, *, passes: Sequence[Pass]) -> torch.Tensor:
        """Computes the gradients of all weights and of the architecture parameters, in `grad`; returns the loss."""
        image = image.to(self.fabric.device)
        label = subsample_labels(label.to(self.fabric.device), self.label_stride)
        loss = torch.zeros((), device=image.device)
        for one in passes:
            with self.fabric.autocast():
                heads = self.supernet(image, one.architecture_set, one.width_mode)
            for logits in heads:
                loss = loss + self.criterion(resize_bilinear(logits, map_size(label.unsqueeze(1))), label)
        torch.autograd.backward(loss)
        return loss.detach()

    def architecture_gradients(
        self,
        image: torch.Tensor,
        label: torch.Tensor,
        *,
        passes: Sequence[Pass],
        latency: "ReferenceLatency",
        latency_weight: float,
    ) -> torch.Tensor:
        """Computes the gradients of the architecture parameters; those of the weights are computed and dropped."""
        loss = self.weights_gradients(image, label, passes=passes)
        parameters = self.supernet.architectures["student"]
        assert isinstance(parameters, ArchitectureParameters)
        term = latency_weight * latency.decoupled(parameters.probabilities())
        torch.autograd.backward(term)
        for weight in self.supernet.weights():
            weight.grad = None
        return loss + term.detach().to(loss)


class ReferenceLatency:
    """The expected latency as a sum over specifications in Python; see `search.expected_latency`.

    Args:
        problem: Space, set, classes and input size.
        entry_ms: The time of one specification.
        pairs: Pairs of branch ends; the result is the mean over them.
    """

    def __init__(self, problem: LatticeProblem, *, entry_ms: EntryCost, pairs: tuple[Branches, ...]) -> None:
        self.problem = problem
        self.entry_ms = entry_ms
        self.pairs = pairs

    def decoupled(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        """The published regulariser in ms; computed on the CPU."""
        probabilities = ArchitectureProbabilities(
            *({stride: rows.cpu().float() for stride, rows in group.items()} for group in probabilities)
        )
        return sum(
            (weight * self.expected_ms(_only_free(probabilities, free)) for free, weight in DECOUPLED_WEIGHTS.items()),
            start=torch.zeros(()),
        )

    def expected_ms(self, probabilities: ArchitectureProbabilities) -> torch.Tensor:
        """The expectation in ms."""
        costs = CostTables(self.problem, self.entry_ms)
        edges = {edge: costs.edge(*edge).float() for edge in EDGES}
        last = {stride: costs.last(stride).float() for stride in STRIDES}
        layers = self.problem.space.layers
        arrivals = self._arrivals(probabilities)
        total = torch.zeros(())
        for pair in self.pairs:
            fusion = [costs.fusion(end).float() for end in pair]
            total = total + costs.constants(pair)
            together = {pair: torch.ones(())}
            for stride in set(pair):
                operators = probabilities.operators[stride][-1]
                total = total + operators @ (last[stride] @ arrivals[layers - 1, stride])
            for layer in range(layers - 1, 0, -1):
                before: dict[Branches, torch.Tensor] = {}
                for strides, probability in together.items():
                    for parents, chance in self._parents(probabilities, layer, strides):
                        joint = probability * chance
                        before[parents] = before.get(parents, torch.zeros(())) + joint
                        for parent, stride in set(zip(parents, strides, strict=True)):
                            operators = probabilities.operators[parent][operator_row(layer - 1, parent)]
                            widths = probabilities.widths[stride][width_row(layer, stride)]
                            for operator, cost in zip(operators, edges[parent, stride], strict=True):
                                total = total + joint * operator * (arrivals[layer - 1, parent] @ cost @ widths)
                        for branch, (parent, stride) in enumerate(zip(parents, strides, strict=True)):
                            if parent != stride:
                                cost = fusion[branch][STRIDES.index(parent)]
                                total = total + joint * (cost @ arrivals[layer - 1, parent])
                together = before
        return total / len(self.pairs)

    def _arrivals(self, probabilities: ArchitectureProbabilities) -> dict[tuple[int, int], torch.Tensor]:
        """The distribution of the width that enters each cell, the stem's own last."""
        space = self.problem.space
        count = len(space.set_widths(self.problem.architecture_set))
        arrivals = {(0, STRIDES[0]): functional.one_hot(torch.tensor(count), count + 1).float()}
        for layer in range(1, space.layers):
            for stride in space.strides_at(layer):
                fresh = functional.pad(probabilities.widths[stride][width_row(layer, stride)], (0, 1))
                arrivals[layer, stride] = fresh
                for (parent,), chance in self._parents(probabilities, layer, (stride,)):
                    if parent == stride:
                        skip = probabilities.operators[stride][operator_row(layer - 1, stride)][SKIP_INDEX]
                        passed = chance * skip * (arrivals[layer - 1, stride] - fresh)
                        arrivals[layer, stride] = arrivals[layer, stride] + passed
        return arrivals

    def _parents(
        self, probabilities: ArchitectureProbabilities, layer: int, strides: Branches
    ) -> list[tuple[Branches, torch.Tensor]]:
        """The strides that branches at the given ones may come from, and how probable that is."""
        if len(strides) == 2 and strides[0] == strides[1]:
            return [(parent * 2, chance) for parent, chance in self._parents(probabilities, layer, strides[:1])]
        options: list[tuple[Branches, torch.Tensor]] = [((), torch.ones(()))]
        for stride in strides:
            own = [(stride, torch.ones(()))] if stride == STRIDES[0] else [(stride // 2, torch.ones(()))]
            if num_parents(layer, stride) == 2:
                row = probabilities.parents[stride][parent_row(layer, stride)]
                own = [(stride // 2, row[FROM_DOWN]), (stride, row[FROM_KEEP])]
            options = [((*chosen, parent), chance * more) for chosen, chance in options for parent, more in own]
        return options


def _only_free(probabilities: ArchitectureProbabilities, free: str) -> ArchitectureProbabilities:
    """The probabilities with one group of choices as it is, the others uniform or at full width."""
    others: dict[str, Mapping[int, torch.Tensor]] = {
        name: {
            stride: torch.full_like(rows, 1 / rows.shape[1]) for stride, rows in getattr(probabilities, name).items()
        }
        for name in ("operators", "parents")
    }
    others["widths"] = {
        stride: functional.one_hot(torch.tensor(rows.shape[1] - 1), rows.shape[1]).to(rows).expand_as(rows)
        for stride, rows in probabilities.widths.items()
    }
    return ArchitectureProbabilities(**{**others, free: getattr(probabilities, free)})
