"""semseg's PSPNet50 checkpoints into our PSPNet, auxiliary head included."""

from collections.abc import Mapping

import torch

from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.pyramid import PYRAMID_BINS
from fasterseg.runtime.importers.backbone import backbone_name
from fasterseg.runtime.importers.weights import ImportedWeights, class_count, fit_weights, moved_name

_STEM = {
    "layer0.0": "stem.0.conv",
    "layer0.1": "stem.0.norm",
    "layer0.3": "stem.1.conv",
    "layer0.4": "stem.1.norm",
    "layer0.6": "stem.2.conv",
    "layer0.7": "stem.2.norm",
}
_PART_NAMES = {
    f"{theirs}.{index}": f"{ours}.{layer}"
    for theirs, ours in (("cls", "head"), ("aux", "auxiliary_heads.8"))
    for index, layer in ((0, "block.conv"), (1, "block.norm"), (4, "classifier"))
} | {
    f"ppm.features.{stage}.{index}": f"pyramid.stages.{stage}.project.{layer}"
    for stage in range(len(PYRAMID_BINS))
    for index, layer in ((1, "conv"), (2, "norm"))
}


def import_pspnet(
    state: Mapping[str, torch.Tensor], architecture: PSPNetArchitecture, *, source: str
) -> ImportedWeights[PSPNetArchitecture]:
    """A PSPNet50 with semseg's weights.

    Args:
        state: Its state dict; see `reference_state`.
        architecture: The stem and width it was trained with; semseg's own is deep.
        source: What an error message calls the state dict.

    Raises:
        ValueError: It is no PSPNet50, or a tensor does not fit the architecture.
    """
    network = architecture.build(class_count(state, "cls.4.weight", source))
    return fit_weights(state, _our_name, network, architecture=architecture, source=source)


def _our_name(name: str) -> str | None:
    return moved_name(name, _PART_NAMES) or backbone_name(name, _STEM)
