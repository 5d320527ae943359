"""The ResNet50 inside other programs' state dicts, and ours handed from one baseline to another."""

import re
from collections.abc import Mapping

import torch

from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.runtime.importers.weights import ImportedWeights, fit_weights, moved_name

BACKBONE = "backbone"
PLAIN_STEM = {"conv1": "stem.0.conv", "bn1": "stem.0.norm"}
DEEP_STEM = {
    "conv1.0": "stem.0.conv",
    "conv1.1": "stem.0.norm",
    "conv1.3": "stem.1.conv",
    "conv1.4": "stem.1.norm",
    "conv1.6": "stem.2.conv",
    "bn1": "stem.2.norm",
}
_UNIT = re.compile(r"(layer[1-4]\.\d+)\.(?:(conv|bn)([123])|downsample\.([01]))\.(\w+)")
_CONVOLUTIONS = {"1": "reduce", "2": "spatial", "3": "expand"}
_KINDS = {"conv": "conv", "bn": "norm", "0": "conv", "1": "norm"}


def backbone_name(name: str, stem: Mapping[str, str]) -> str | None:
    """Our name of a ResNet50's tensor that is called as torchvision calls it.

    Args:
        name: The reference's name, without what precedes the backbone's own names.
        stem: Our names of the stem's layers, by the reference's.

    Returns:
        The name in a network of ours, None when it is no layer of the stem or the stages.
    """
    unit = _UNIT.fullmatch(name)
    if unit is None:
        moved = moved_name(name, stem)
        return None if moved is None else f"{BACKBONE}.{moved}"
    block, kind, index, shortcut, field = unit.groups()
    layer = "downsample" if shortcut else _CONVOLUTIONS[index]
    return f"{BACKBONE}.{block}.{layer}.{_KINDS[shortcut or kind]}.{field}"


def transfer_backbone(
    weights: Mapping[str, torch.Tensor], architecture: ICNetArchitecture, *, num_classes: int, source: str
) -> ImportedWeights[ICNetArchitecture]:
    """An ICNet that starts from a trained PSPNet's backbone, which is the first stage of ICNet's two.

    Args:
        weights: State dict of a PSPNet of ours.
        architecture: The ICNet's, of the same stem and width.
        num_classes: Its channels of the logits; the classifier does not transfer, so any.
        source: What an error message calls the weights.

    Raises:
        ValueError: A tensor of the backbone does not fit.
    """
    network = architecture.build(num_classes)
    return fit_weights(weights, _kept_backbone, network, architecture=architecture, source=source)


def _kept_backbone(name: str) -> str | None:
    return name if name.startswith(f"{BACKBONE}.") else None
