"""Search space, operators, architectures and networks; knows of no other room."""

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
from fasterseg.networks.resizing import Size, resize_bilinear
from fasterseg.networks.space import SpaceConfig
from fasterseg.networks.specs import OperatorSpec

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
