"""The public PyTorch ICNet's checkpoints into our ICNet; its unused ImageNet classifier is dropped."""

from collections.abc import Mapping

import torch

from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.runtime.importers.backbone import DEEP_STEM, PLAIN_STEM, backbone_name
from fasterseg.runtime.importers.weights import ImportedWeights, class_count, fit_weights, moved_name

_BACKBONE_PREFIX = "pretrained."
_CLASSIFIER = "head.conv_cls"
_FUSIONS = {"head.cff_24": ("fusion16", "16"), "head.cff_12": ("fusion8", "8")}


def _part_names() -> dict[str, str]:
    names = {_CLASSIFIER: "classifier"}
    for index in range(3):
        names[f"conv_sub1.{index}.conv"] = f"detail.{index}.conv"
        names[f"conv_sub1.{index}.bn"] = f"detail.{index}.norm"
    for theirs, (fusion, scale) in _FUSIONS.items():
        names[f"{theirs}.conv_low_cls"] = f"auxiliary_heads.{scale}"
        for side in ("low", "high"):
            names[f"{theirs}.conv_{side}.0"] = f"{fusion}.{side}.conv"
            names[f"{theirs}.conv_{side}.1"] = f"{fusion}.{side}.norm"
    return names


_PART_NAMES = _part_names()


def import_icnet(
    state: Mapping[str, torch.Tensor], architecture: ICNetArchitecture, *, source: str
) -> ImportedWeights[ICNetArchitecture]:
    """An ICNet with the weights of the public PyTorch port.

    Args:
        state: Its state dict; see `reference_state`.
        architecture: The stem and width it was trained with.
        source: What an error message calls the state dict.

    Raises:
        ValueError: It is no ICNet, or a tensor does not fit the architecture.
    """
    network = architecture.build(class_count(state, f"{_CLASSIFIER}.weight", source))
    stem = DEEP_STEM if architecture.stem == "deep" else PLAIN_STEM

    def our_name(name: str) -> str | None:
        if name.startswith(_BACKBONE_PREFIX):
            return backbone_name(name.removeprefix(_BACKBONE_PREFIX), stem)
        return moved_name(name, _PART_NAMES)

    return fit_weights(state, our_name, network, architecture=architecture, source=source)
