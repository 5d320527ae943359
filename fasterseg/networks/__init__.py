"""Search space, operators, architectures and networks; imports only `fasterseg.base`.

The names below are imported from their modules on first use, so that settings and preset names need no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fasterseg.networks.architecture import Architecture, CellChoice
    from fasterseg.networks.derived import DerivedNetwork, derived_specs
    from fasterseg.networks.families import (
        AnyArchitecture,
        architecture_from_dict,
        build_network,
        load_architecture,
        network_specs,
    )
    from fasterseg.networks.network import (
        DeployedNetwork,
        Network,
        SegmentationLogits,
        count_macs,
        count_parameters,
        measure_size,
    )
    from fasterseg.networks.operator_specs import OperatorSpec
    from fasterseg.networks.resizing import Size, resize_bilinear
    from fasterseg.networks.space import SpaceConfig

_MODULES = {
    "AnyArchitecture": "families",
    "Architecture": "architecture",
    "CellChoice": "architecture",
    "DeployedNetwork": "network",
    "DerivedNetwork": "derived",
    "Network": "network",
    "OperatorSpec": "operator_specs",
    "SegmentationLogits": "network",
    "Size": "resizing",
    "SpaceConfig": "space",
    "architecture_from_dict": "families",
    "build_network": "families",
    "count_macs": "network",
    "count_parameters": "network",
    "derived_specs": "derived",
    "load_architecture": "families",
    "measure_size": "network",
    "network_specs": "families",
    "resize_bilinear": "resizing",
}

__all__ = [
    "AnyArchitecture",
    "Architecture",
    "CellChoice",
    "DeployedNetwork",
    "DerivedNetwork",
    "Network",
    "OperatorSpec",
    "SegmentationLogits",
    "Size",
    "SpaceConfig",
    "architecture_from_dict",
    "build_network",
    "count_macs",
    "count_parameters",
    "derived_specs",
    "load_architecture",
    "measure_size",
    "network_specs",
    "resize_bilinear",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
