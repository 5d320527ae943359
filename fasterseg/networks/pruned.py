"""Pruned networks: another family's architecture with fewer channels in some of its layers.

A pruned network is the base's own network whose convolutions and batch norms were exchanged for smaller plain ones, so
it trains, exports and is timed like any other. Its channel counts stand in the architecture, layer by layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derived import DerivedNetwork
from fasterseg.networks.derived_reading import read_derived_specs
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.network import Network
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.resizing import Size
from fasterseg.networks.specs import OperatorSpec

BaseArchitecture = Architecture | ICNetArchitecture | PSPNetArchitecture
FORMAT_VERSION = 1
_CONV_FIELDS = 2


@dataclass(frozen=True)
class PrunedArchitecture:
    """A base architecture and the channel counts of the layers that differ from it.

    Attributes:
        base: What was pruned.
        channels: For every layer that differs, its name in the network and its channel counts: (in, out) of a
            convolution, (channels,) of a batch norm.

    Raises:
        ValueError: A count is not possible.
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

    def operator_specs(self, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
        """The operator specifications of one evaluation; see `Network.operator_specs`.

        Args:
            num_classes: Channels of the logits.
            input_size: (height, width) of the image.
        """
        with torch.device("meta"):  # the structure alone, without memory for weights
            network = self.build(num_classes)
        return network.operator_specs(input_size)

    def _shrink(self, network: Network) -> None:
        """Exchanges the layers of a network of the base architecture for fresh ones of the pruned sizes."""
        layers = dict(network.named_modules())
        for name, counts in self.channels:
            layer = layers.get(name)
            if isinstance(layer, nn.Conv2d) and len(counts) == _CONV_FIELDS:
                found: tuple[int, ...] = (layer.in_channels, layer.out_channels)
                smaller: nn.Module = _conv(layer, *counts)
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
    """A derived network whose specifications are read off its layers, of whichever sizes they are."""

    def operator_specs(self, input_size: Size) -> tuple[OperatorSpec, ...]:
        """See `Network.operator_specs`."""
        return read_derived_specs(self, input_size)


def build_base(base: BaseArchitecture, num_classes: int) -> Network:
    """A network of an architecture before pruning, with fresh weights."""
    if isinstance(base, Architecture):
        return PrunableDerivedNetwork(base, num_classes)
    return base.build(num_classes)


def base_architecture(architecture: BaseArchitecture | PrunedArchitecture) -> BaseArchitecture:
    """What an architecture was before it was pruned, if it was."""
    return architecture.base if isinstance(architecture, PrunedArchitecture) else architecture


def pruned_architecture(base: BaseArchitecture, network: Network, original: Network) -> PrunedArchitecture:
    """The architecture of a network that layers were shrunk of.

    Args:
        base: The architecture of `original`.
        network: The network after pruning.
        original: A network of the base architecture, such as one without memory for its weights.
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
        data: What stands under `channels`.
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


def _conv(layer: nn.Conv2d, in_channels: int, out_channels: int) -> nn.Conv2d:
    assert layer.groups == 1, "networks of this toolkit have no grouped convolutions"
    return nn.Conv2d(
        in_channels,
        out_channels,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        bias=layer.bias is not None,
    )
