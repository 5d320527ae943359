"""Operator specifications of a derived network, read off its built layers instead of its architecture.

A pruned network's layers have channel counts that no architecture gives them. What still is a plain operator is listed
as one, so that a latency table of the search space knows it; the rest has kinds of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from fasterseg.networks.architecture import CellChoice
from fasterseg.networks.baseline_specs import block_spec, resize_spec
from fasterseg.networks.derived import DerivedNetwork
from fasterseg.networks.heads import BranchFusion, FusionStep, Head, head_channels
from fasterseg.networks.operators import Conv2x, ConvNormAct, Operator, operator_class
from fasterseg.networks.resizing import Size, halved, strided
from fasterseg.networks.space import STRIDES
from fasterseg.networks.specs import CellSpec, HeadSpec, OperatorSpec


@dataclass(frozen=True, kw_only=True)
class PrunedCellSpec(OperatorSpec):
    """A cell's operator whose first convolution does not have the channels that its kind gives it."""

    kind: ClassVar[str] = "pruned_cell"
    operator: str
    first_channels: int
    out_channels: int
    stride: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        # even counts, as the factorised reduction halves them; every layer is exchanged
        cell = operator_class(self.operator)(self.in_channels, 2 * self.out_channels, stride=self.stride)
        first = _resized(cell.get_submodule("conv1"), self.in_channels, self.first_channels)
        cell.add_module("conv1", first)
        if hasattr(cell, "norm"):  # a skip: its convolutions stand side by side
            cell.add_module("norm", nn.BatchNorm2d(self.out_channels))
            if hasattr(cell, "conv2"):
                second = self.out_channels - self.first_channels
                cell.add_module("conv2", _resized(cell.get_submodule("conv2"), self.in_channels, second))
            return cell
        cell.add_module("norm1", nn.BatchNorm2d(self.first_channels))
        second_conv = _resized(cell.get_submodule("conv2"), self.first_channels, self.out_channels)
        cell.add_module("conv2", second_conv)
        cell.add_module("norm2", nn.BatchNorm2d(self.out_channels))
        return cell


@dataclass(frozen=True, kw_only=True)
class PrunedHeadSpec(OperatorSpec):
    """A prediction head whose inner channels do not follow from its input."""

    kind: ClassVar[str] = "pruned_head"
    hidden_channels: int
    num_classes: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        head = Head(self.in_channels, self.num_classes)
        head.block = ConvNormAct(self.in_channels, self.hidden_channels, kernel_size=3)
        head.classifier = nn.Conv2d(self.hidden_channels, self.num_classes, 1)
        return head


def read_derived_specs(network: DerivedNetwork, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The operator specifications of one evaluation, in running order; see `Network.operator_specs`."""
    specs: list[OperatorSpec] = []
    size = input_size
    for block in network.stem:
        specs.append(
            block_spec(block, size)
            if isinstance(block, ConvNormAct)
            else _cell_spec(_operator(block), Conv2x.name, size)
        )
        size = halved(size)
    shared = network.architecture.shared_cells
    for index, (branch, cells, fusion) in enumerate(
        zip(network.architecture.branches, network.branches, network.fusions, strict=True)
    ):
        assert isinstance(cells, nn.ModuleList) and isinstance(fusion, BranchFusion)
        for choice, cell in zip(branch[shared if index else 0 :], cells, strict=True):
            specs.append(_cell_spec(_operator(cell), choice.operator, strided(input_size, choice.scale)))
        specs += _fusion_specs(fusion, branch, input_size)
    size = strided(input_size, STRIDES[0])
    specs += [block_spec(network.ffm, size), _head_spec(network.head, size)]
    return (*specs, resize_spec(network.num_classes, size, input_size))


def _fusion_specs(fusion: BranchFusion, branch: tuple[CellChoice, ...], input_size: Size) -> Iterator[OperatorSpec]:
    """The steps from a branch's last output stride up to stride 8."""
    scale = max([STRIDES[0], *(cell.out_scale for cell in branch)])
    for step in fusion.steps:
        assert isinstance(step, FusionStep)
        deep, shallow = strided(input_size, scale), strided(input_size, scale // 2)
        project = block_spec(step.project, deep)
        yield project
        yield resize_spec(project.out_channels, deep, shallow)
        yield block_spec(step.refine, shallow)
        scale //= 2


def _cell_spec(cell: Operator, name: str, size: Size) -> OperatorSpec:
    """An operator that reads a map of (height, width)."""
    convolutions = [module for module in cell.children() if isinstance(module, nn.Conv2d)]
    norms = [module for module in cell.children() if isinstance(module, nn.BatchNorm2d)]
    in_channels, first, out = convolutions[0].in_channels, convolutions[0].out_channels, norms[-1].num_features
    side_by_side = len(norms) < len(convolutions)
    plain = 2 * first == out if side_by_side else first == out
    if plain:
        return CellSpec(
            operator=name, in_channels=in_channels, out_channels=out, stride=cell.stride, height=size[0], width=size[1]
        )
    return PrunedCellSpec(
        operator=name,
        in_channels=in_channels,
        first_channels=first,
        out_channels=out,
        stride=cell.stride,
        height=size[0],
        width=size[1],
    )


def _head_spec(head: Head, size: Size) -> OperatorSpec:
    in_channels, hidden = head.block.conv.in_channels, head.classifier.in_channels
    assert isinstance(in_channels, int)
    classes = head.classifier.out_channels
    if hidden == head_channels(in_channels):
        return HeadSpec(in_channels=in_channels, height=size[0], width=size[1], num_classes=classes)
    return PrunedHeadSpec(
        in_channels=in_channels, hidden_channels=hidden, num_classes=classes, height=size[0], width=size[1]
    )


def _operator(module: nn.Module) -> Operator:
    assert isinstance(module, Operator)
    return module


def _resized(layer: nn.Module, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution like another one, with other channel counts."""
    assert isinstance(layer, nn.Conv2d)
    return nn.Conv2d(in_channels, out_channels, layer.kernel_size, layer.stride, layer.padding, bias=False)  # type: ignore[arg-type]
