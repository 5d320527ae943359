"""The families of networks: searched, ICNet, PSPNet, pruned. The functions here take architectures of any family.

An architecture is frozen plain data, whose JSON names the family as its `format`. Trainer, latency table, export and
comparison use only the interfaces `Network` and `OperatorSpec`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fasterseg.base.jsonfile import read_json
from fasterseg.networks.architecture import FORMAT as DERIVED_FORMAT
from fasterseg.networks.architecture import Architecture
from fasterseg.networks.derived import DerivedNetwork, derived_specs
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.network import Network
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.pruned import PrunedArchitecture, read_channels
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.resizing import Size

AnyArchitecture = Architecture | ICNetArchitecture | PSPNetArchitecture | PrunedArchitecture


def _read_pruned(data: Any, source: str) -> PrunedArchitecture:
    """A pruned architecture; its base is of another family."""
    if set(data) != {"format", "version", "base", "channels"} or data["version"] != 1:
        raise ValueError(f"{source} is no pruned architecture of version 1; expected format, version, base, channels")
    base = architecture_from_dict(data["base"], f"{source}: base")
    if isinstance(base, PrunedArchitecture):
        raise ValueError(f"{source}: its base is itself pruned; expected the architecture before any pruning")
    try:
        return PrunedArchitecture(base, read_channels(data["channels"], source))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


_READERS: dict[str, Callable[[Any, str], AnyArchitecture]] = {
    DERIVED_FORMAT: Architecture.from_dict,
    ICNetArchitecture.FORMAT: ICNetArchitecture.from_dict,
    PSPNetArchitecture.FORMAT: PSPNetArchitecture.from_dict,
    PrunedArchitecture.FORMAT: _read_pruned,
}


def build_network(architecture: AnyArchitecture, num_classes: int) -> Network:
    """The network that an architecture describes, with fresh weights, in training mode.

    Args:
        architecture: Architecture of any family.
        num_classes: Channels of the logits.
    """
    if isinstance(architecture, Architecture):
        return DerivedNetwork(architecture, num_classes)
    return architecture.build(num_classes)


def network_specs(architecture: AnyArchitecture, num_classes: int, *, input_size: Size) -> tuple[OperatorSpec, ...]:
    """The operator specifications of one evaluation of the network that an architecture describes.

    Args:
        architecture: Architecture of any family.
        num_classes: Channels of the logits.
        input_size: (height, width) of the image.
    """
    if isinstance(architecture, Architecture):
        return derived_specs(architecture, num_classes, input_size=input_size)
    with torch.device("meta"):  # the structure alone, without memory for weights
        network = architecture.build(num_classes)
    return network.operator_specs(input_size)


def architecture_from_dict(data: Any, source: str = "architecture") -> AnyArchitecture:
    """The architecture, of any family, that `to_dict` wrote.

    Args:
        data: Parsed JSON.
        source: What an error message calls the data, such as its file.

    Raises:
        ValueError: The data is of an unknown format or another version, incomplete or inconsistent.
    """
    found = data.get("format") if isinstance(data, dict) else None
    if not isinstance(found, str) or found not in _READERS:
        raise ValueError(
            f"{source} is not an architecture: its format is {found!r}, expected one of {', '.join(_READERS)}"
        )
    return _READERS[found](data, source)


def load_architecture(path: Path) -> AnyArchitecture:
    """Reads an architecture file of any family.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or not a valid architecture.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"no architecture at {path}; `python -m search search` writes one, `fasterseg import` makes one of the "
            "published files"
        )
    return architecture_from_dict(read_json(path), str(path))
