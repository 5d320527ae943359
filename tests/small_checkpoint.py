"""A network checkpoint of three classes with fresh weights, without training."""

import torch

from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture

FACTS = DatasetFacts(
    class_names=("a", "b", "c"),
    colors=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
    ignore_index=255,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
)


def small_checkpoint(architecture: ICNetArchitecture | PSPNetArchitecture) -> NetworkCheckpoint:
    """Its network for images of 64x96, drawn with a fixed seed."""
    torch.manual_seed(0)
    return NetworkCheckpoint(architecture, FACTS, (64, 96), architecture.build(3).state_dict())
