"""Search space, operators, architectures and networks; knows of no other room."""

from fasterseg.networks.architecture import Architecture, CellChoice
from fasterseg.networks.counting import count_macs, count_parameters, measure_size
from fasterseg.networks.derived import DerivedNetwork, derived_specs
from fasterseg.networks.network import DeployedNetwork, Network
from fasterseg.networks.outputs import SegmentationLogits
from fasterseg.networks.resizing import Size, resize_bilinear
from fasterseg.networks.space import SpaceConfig
from fasterseg.networks.specs import OperatorSpec

__all__ = [
    "Architecture",
    "CellChoice",
    "DeployedNetwork",
    "DerivedNetwork",
    "Network",
    "OperatorSpec",
    "SegmentationLogits",
    "Size",
    "SpaceConfig",
    "count_macs",
    "count_parameters",
    "derived_specs",
    "measure_size",
    "resize_bilinear",
]
