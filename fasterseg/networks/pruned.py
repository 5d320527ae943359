"""Pruned networks: another family's architecture with fewer channels in some of its layers.

A pruned network is the base architecture's network with smaller convolutions and batch norms, so it trains, exports and
is timed like any other. The architecture holds its channel counts, layer by layer.

The operator specifications of a pruned searched network are read off its layers. A layer that still equals a plain
operator is listed as that operator, so that the search space's latency table covers it. Other layers have the kinds
`pruned_cell` and `pruned_head`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.derived import DerivedNetwork
from fasterseg.networks.heads import BranchFusion, FusionStep, Head, head_channels
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.network import Network
from fasterseg.networks.operator_specs import (
    CellSpec,
    ConvNormActSpec,
    HeadSpec,
    OperatorSpec,
    ResizeSpec,
    input_fields,
)
from fasterseg.networks.operators import Conv2x, ConvNormAct, Operator, operator_class
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.resizing import Size, halved, strided
from fasterseg.networks.space import STRIDES

BaseArchitecture = Architecture | ICNetArchitecture | PSPNetArchitecture
FORMAT_VERSION = 1
_CONV_FIELDS = 2


@dataclass(frozen=True)
class PrunedArchitecture:
    """A base architecture and the channel counts of the layers that differ from it.

    Attributes:
        base: The architecture before pruning.
        channels: For every layer that differs, its name in the network and its channel counts: (in, out) of a
            convolution, (channels,) of a batch norm.

    Raises:
        ValueError: A channel count is invalid.
    """

    FORMAT: ClassVar[str] = "pruned-architecture"

    base: BaseArchitecture
    channels: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        for name, counts in self.channels:
            if len(counts) not in (1, _CONV_FIELDS) or min(counts) < 1:
                raise ValueError(
                    f"channels of layer {name} are {list(counts)}, expected [in, out] of a convolution or [channels] "
                    "of a batch norm, each at least 1"
                )

    def build(self, num_classes: int) -> Network:
        """The network with fresh weights.

        Raises:
            ValueError: A layer is not in the base's network, is of another kind there, or would grow.
        """
        network = build_base(self.base, num_classes)
        self._shrink(network)
        return network

    def _shrink(self, network: Network) -> None:
        """Replaces layers of a network of the base architecture by new layers of the pruned sizes."""
        layers = dict(network.named_modules())
        for name, counts in self.channels:
            layer = layers.get(name)
            if isinstance(layer, nn.Conv2d) and len(counts) == _CONV_FIELDS:
                found: tuple[int, ...] = (layer.in_channels, layer.out_channels)
                smaller: nn.Module = _resized(layer, *counts)
            elif isinstance(layer, nn.BatchNorm2d) and len(counts) == 1:
                found, smaller = (layer.num_features,), nn.BatchNorm2d(*counts)
            else:
                raise ValueError(
                    f"the pruned architecture names a layer {name} with channels {list(counts)}, which the "
                    f"{type(network).__name__} of its base does not have; it belongs to another network"
                )
            if any(count > before for count, before in zip(counts, found, strict=True)):
                raise ValueError(f"layer {name} has channels {list(counts)}, more than its base's {list(found)}")
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, smaller)

    def to_dict(self) -> dict[str, Any]:
        """The architecture as JSON-ready plain data with its format and version."""
        return {
            "format": self.FORMAT,
            "version": FORMAT_VERSION,
            "base": self.base.to_dict(),
            "channels": {name: list(counts) for name, counts in self.channels},
        }


class PrunableDerivedNetwork(DerivedNetwork):
    """A derived network whose specifications are read off its layers, which may be pruned."""

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """See `Network.operator_specs`."""
        return read_derived_specs(self, input_size)


def build_base(base: BaseArchitecture, num_classes: int) -> Network:
    """A network of an architecture before pruning, with fresh weights."""
    if isinstance(base, Architecture):
        return PrunableDerivedNetwork(base, num_classes)
    return base.build(num_classes)


def base_architecture(architecture: BaseArchitecture | PrunedArchitecture) -> BaseArchitecture:
    """The architecture before pruning; an unpruned architecture itself."""
    return architecture.base if isinstance(architecture, PrunedArchitecture) else architecture


def pruned_architecture(base: BaseArchitecture, network: Network, original: Network) -> PrunedArchitecture:
    """The architecture of a network whose layers were shrunk.

    Args:
        base: The architecture of `original`.
        network: The network after pruning.
        original: A network of the base architecture, such as one on the meta device.
    """
    before = layer_channels(original)
    after = layer_channels(network)
    return PrunedArchitecture(base, tuple((name, counts) for name, counts in after.items() if counts != before[name]))


def layer_channels(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Channel counts of every convolution, (in, out), and of every batch norm, (channels,), by name."""
    counts: dict[str, tuple[int, ...]] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            counts[name] = (module.in_channels, module.out_channels)
        elif isinstance(module, nn.BatchNorm2d):
            counts[name] = (module.num_features,)
    return counts


def read_channels(data: Any, source: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """The channel counts in the plain data of a pruned architecture.

    Args:
        data: The value of `channels`.
        source: What an error message calls the data.

    Raises:
        ValueError: It is no mapping of names to lists of whole numbers.
    """
    if not isinstance(data, Mapping):
        raise ValueError(f"{source}: channels is {data!r}, expected a list of channel counts for each layer")
    for name, counts in data.items():
        if not isinstance(counts, list) or not all(type(count) is int for count in counts) or not counts:
            raise ValueError(f"{source}: channels of layer {name} are {counts!r}, expected a list of whole numbers")
    return tuple((name, tuple(counts)) for name, counts in data.items())


def _resized(layer: nn.Module, in_channels: int, out_channels: int) -> nn.Conv2d:
    """A convolution like another one, with other channel counts."""
    assert isinstance(layer, nn.Conv2d) and layer.groups == 1, "networks of this toolkit have no grouped convolutions"
    return nn.Conv2d(
        in_channels,
        out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )


@dataclass(frozen=True, kw_only=True)
class PrunedCellSpec(OperatorSpec):
    """A cell's operator whose first convolution has pruned output channels."""

    kind: ClassVar[str] = "pruned_cell"
    operator: str
    first_channels: int
    out_channels: int
    stride: int

    def build(self) -> nn.Module:
        """See `OperatorSpec.build`."""
        # an even count, because the factorised reduction halves it; every layer is then replaced
        cell = operator_class(self.operator)(self.in_channels, 2 * self.out_channels, stride=self.stride)
        first = _resized(cell.get_submodule("conv1"), self.in_channels, self.first_channels)
        cell.add_module("conv1", first)
        if hasattr(cell, "norm"):  # a skip: its convolutions run in parallel
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
    """A prediction head with pruned hidden channels."""

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
            ConvNormActSpec.of(block, size)
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
    specs += [ConvNormActSpec.of(network.ffm, size), _head_spec(network.head, size)]
    return (*specs, ResizeSpec.of(network.num_classes, size, input_size))


def _fusion_specs(fusion: BranchFusion, branch: tuple[CellChoice, ...], input_size: Size) -> Iterator[OperatorSpec]:
    """The steps from a branch's last output stride up to stride 8."""
    scale = max([STRIDES[0], *(cell.out_scale for cell in branch)])
    for step in fusion.steps:
        assert isinstance(step, FusionStep)
        deep, shallow = strided(input_size, scale), strided(input_size, scale // 2)
        project = ConvNormActSpec.of(step.project, deep)
        yield project
        yield ResizeSpec.of(project.out_channels, deep, shallow)
        yield ConvNormActSpec.of(step.refine, shallow)
        scale //= 2


def _cell_spec(cell: Operator, name: str, size: Size) -> OperatorSpec:
    """An operator that reads a map of (height, width)."""
    convolutions = [module for module in cell.children() if isinstance(module, nn.Conv2d)]
    norms = [module for module in cell.children() if isinstance(module, nn.BatchNorm2d)]
    in_channels, first, out = convolutions[0].in_channels, convolutions[0].out_channels, norms[-1].num_features
    in_parallel = len(norms) < len(convolutions)
    plain = 2 * first == out if in_parallel else first == out
    if plain:
        return CellSpec(**input_fields(in_channels, size), operator=name, out_channels=out, stride=cell.stride)
    return PrunedCellSpec(
        **input_fields(in_channels, size), operator=name, first_channels=first, out_channels=out, stride=cell.stride
    )


def _head_spec(head: Head, size: Size) -> OperatorSpec:
    in_channels, hidden = head.block.conv.in_channels, head.classifier.in_channels
    assert isinstance(in_channels, int)
    classes = head.classifier.out_channels
    if hidden == head_channels(in_channels):
        return HeadSpec(**input_fields(in_channels, size), num_classes=classes)
    return PrunedHeadSpec(**input_fields(in_channels, size), hidden_channels=hidden, num_classes=classes)


def _operator(module: nn.Module) -> Operator:
    assert isinstance(module, Operator)
    return module
