"""The supernet: every network of the search space in one, for two architecture sets that share the cells' weights.

A pass runs it for one set at one width mode and gives the logits of all five heads at once. The set decides the
mixture of operators and parents, and has its own stem, fusions and heads.

Source: FasterSeg, sections 3.1 to 3.3.
"""

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple, get_args

import torch
from torch import nn

from fasterseg.networks.channels import fusion_channels
from fasterseg.networks.heads import BranchFusion, Head, Stem
from fasterseg.networks.slimmable import SlimmableConv2d
from fasterseg.networks.space import STRIDES, ArchitectureSet, Branches, SpaceConfig
from search.cells import Cell, CellBatch
from search.concurrency import Part, run_side_by_side
from search.parameters import ArchitectureParameters
from search.relaxation import DrawnMixture, Mixture
from search.widths import WidthChoice, WidthMode, choose_widths


class Pass(NamedTuple):
    """One pass of the supernet: its architecture set and its width mode."""

    architecture_set: ArchitectureSet
    width_mode: WidthMode


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
        """Clears the gradients of the weights.

        Args:
            keep_memory: Whether the gradients of the cells' convolutions (nearly all) are set to zero in place instead
                of None. Only for steps that compute all of them: the optimizer applies momentum and weight
                decay to a weight with a zero gradient, and skips one with None.
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
        stems = {architecture_set: self.stem(image, architecture_set)}
        (logits,) = self.run_together(stems, [Pass(architecture_set, width_mode)], draws=draws)
        return logits

    def stem(self, image: torch.Tensor, architecture_set: ArchitectureSet, *, passes: int = 1) -> torch.Tensor:
        """The map at stride 8 from a set's stem: the input of its passes' cells.

        Args:
            image: See `forward`.
            architecture_set: Whose stem.
            passes: How many passes start with it: its running statistics are updated as often.
        """
        parts = self.set_parts(architecture_set)
        with _repeated_statistics(parts.stem, times=passes):
            feature: torch.Tensor = parts.stem(image)
        return feature

    def set_parts(self, architecture_set: ArchitectureSet) -> SetParts:
        """The stem, fusions and heads of a set."""
        parts = self.parts[architecture_set]
        assert isinstance(parts, SetParts)
        return parts

    def is_full_width(self, one: Pass) -> bool:
        """Whether all maps between the cells are at full width in a pass."""
        return one.width_mode == "max" or (one.width_mode == "sampled" and one.architecture_set == "teacher")

    def run_together(
        self, stems: Mapping[ArchitectureSet, torch.Tensor], passes: Sequence[Pass], *, draws: int = 0
    ) -> list[SupernetLogits]:
        """Several passes at once: where their maps are equally wide, a cell runs them as one batch.

        Logits and running statistics are those of the passes run one after the other.

        Args:
            stems: The output of `stem` for each set of the passes.
            passes: What to run.
            draws: See `forward`.
        """
        runs = [_Run(self, one, stems[one.architecture_set], draws=draws) for one in passes]
        for layer in range(self.space.layers):
            strides = self.space.strides_at(layer)
            parts = []
            for stride in strides:
                tensors, alone = zip(*(run.enter(layer, stride) for run in runs), strict=True)
                batches = [one._replace(passes=len(list(same))) for one, same in itertools.groupby(alone)]
                inputs = tuple(itertools.chain(*tensors))
                parts.append(Part(functools.partial(self.cell(layer, stride), batches), inputs))
            # the cell with the most work first
            order = sorted(range(len(parts)), key=lambda index: len(parts[index].inputs), reverse=True)
            results = dict(zip(order, run_side_by_side([parts[index] for index in order]), strict=True))
            for number, run in enumerate(runs):
                outputs = {}
                for index, stride in enumerate(strides):
                    count = len(results[index]) // len(runs)
                    outputs[stride] = results[index][number * count : (number + 1) * count]
                run.leave(outputs)
        return [run.predict() for run in runs]


class _Run:
    """A pass on its way through the layers.

    Args:
        supernet: What it runs through.
        one: The pass: set and width mode.
        feature: The output of its set's stem.
        draws: See `Supernet.forward`.
    """

    def __init__(self, supernet: Supernet, one: Pass, feature: torch.Tensor, *, draws: int) -> None:
        architecture_set = one.architecture_set
        parameters = supernet.architecture(architecture_set)
        self.space, self.parts, self.cell = supernet.space, supernet.set_parts(architecture_set), supernet.cell
        self.mixture = DrawnMixture(parameters, draws) if draws else Mixture(parameters)
        self.widths = choose_widths(parameters, self.space, architecture_set=architecture_set, mode=one.width_mode)
        self.end = WidthChoice(self.space.end_width(architecture_set))
        self.entering: dict[int, list[torch.Tensor]] = {STRIDES[0]: [feature]}

    def enter(self, layer: int, stride: int) -> tuple[list[torch.Tensor], CellBatch]:
        """The inputs of a cell (weights, then maps) and its settings; passes with equal settings can be one batch."""
        maps = self.entering[stride]
        in_gate = self.widths[layer, stride].gate if layer else None
        weights, out_channels, operators = [], [], []
        for place in range(len(self.cell(layer, stride).outputs)):
            out_stride = stride * 2**place
            width = self.widths.get((layer + 1, out_stride), self.end)
            out_channels.append(self.space.channels(out_stride, width.width))
            own = self.mixture.weights(layer, stride, place, gates=(in_gate, width.gate))
            operators.append(own.operators)
            weights.append(own.weights)
        return [*weights, *maps], CellBatch(1, maps[0].shape[1], tuple(out_channels), tuple(operators))

    def leave(self, outputs: Mapping[int, Sequence[torch.Tensor]]) -> None:
        """Takes the outputs of a layer's cells, by stride."""
        leaving: dict[int, list[torch.Tensor]] = {}
        for stride, maps in outputs.items():
            for out_stride, feature in zip((stride, 2 * stride), maps, strict=False):
                leaving.setdefault(out_stride, []).append(feature)
        self.entering = leaving

    def predict(self) -> SupernetLogits:
        """The logits, after the last layer."""
        return self.parts.predict({stride: maps[0] for stride, maps in self.entering.items()})


@contextmanager
def _repeated_statistics(module: nn.Module, *, times: int) -> Iterator[None]:
    """Raises the batch-norm momentum, so that a batch updates running statistics as if it had come `times` times."""
    norms = [each for each in module.modules() if isinstance(each, nn.BatchNorm2d | nn.SyncBatchNorm)]
    momenta = [norm.momentum or 0.0 for norm in norms]
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = 1 - (1 - momentum) ** times
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            if norm.training and norm.num_batches_tracked is not None:
                norm.num_batches_tracked += times - 1


def cell_name(layer: int, stride: int) -> str:
    """The key of a cell in `Supernet.cells`."""
    return f"layer{layer}_stride{stride}"
