"""State dicts of other programs into the baselines: ImageNet's ResNet50, semseg's PSPNet50, the public ICNet.

All three contain a ResNet50 whose layers have the same names; the names of the other layers differ. A trained backbone
can also be transferred from one baseline to another.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

import torch

from fasterseg.networks.channels import StemKind
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.networks.pyramid import PYRAMID_BINS
from fasterseg.runtime.importers.weights import ImportedWeights, class_count, fit_weights, moved_name

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
    """Our name of a ResNet50's tensor, given its name in torchvision.

    Args:
        name: The reference's name, without the prefix of the backbone.
        stem: Our names of the stem's layers, by the reference's.

    Returns:
        Our name; None for a tensor outside the stem and the stages.
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
    """An ICNet with a trained PSPNet's backbone; to train the PSPNet is the first of ICNet's two stages.

    Args:
        weights: State dict of a PSPNet of ours.
        architecture: The ICNet's, of the same stem and width.
        num_classes: Channels of its logits; may differ from the PSPNet's, whose classifier is not transferred.
        source: What an error message calls the weights.

    Raises:
        ValueError: A tensor of the backbone does not fit.
    """
    network = architecture.build(num_classes)
    return fit_weights(weights, _kept_backbone, network, architecture=architecture, source=source)


def _kept_backbone(name: str) -> str | None:
    return name if name.startswith(f"{BACKBONE}.") else None


BaselineT = TypeVar("BaselineT", ICNetArchitecture, PSPNetArchitecture)

_STEMS: dict[StemKind, dict[str, str]] = {"plain": PLAIN_STEM, "deep": DEEP_STEM}
# weights whose input channels depend on the stem
_BEHIND_STEM = ("layer1.0.conv1.weight", "layer1.0.downsample.0.weight")


def import_resnet50(
    state: Mapping[str, torch.Tensor], architecture: BaselineT, *, num_classes: int, source: str
) -> ImportedWeights[BaselineT]:
    """A baseline with a backbone from ImageNet weights.

    If the file's stem differs from the architecture's, it is dropped, with the two weights that read its output. The
    ImageNet classifier is always dropped.

    Args:
        state: State dict of torchvision's `resnet50`, or of a ResNet50-v1s whose stem is `conv1.{0,1,3,4,6}`, `bn1`.
        architecture: The baseline to initialise.
        num_classes: Its channels of the logits.
        source: What an error message calls the state dict.

    Raises:
        ValueError: A tensor does not fit, or no tensor is used.
    """
    file_stem: StemKind = "deep" if "conv1.0.weight" in state else "plain"
    same_stem = file_stem == architecture.stem

    def our_name(name: str) -> str | None:
        if not same_stem and name in _BEHIND_STEM:
            return None
        return backbone_name(name, _STEMS[file_stem] if same_stem else {})

    network = architecture.build(num_classes)
    return fit_weights(state, our_name, network, architecture=architecture, source=source)


_SEMSEG_STEM = {
    "layer0.0": "stem.0.conv",
    "layer0.1": "stem.0.norm",
    "layer0.3": "stem.1.conv",
    "layer0.4": "stem.1.norm",
    "layer0.6": "stem.2.conv",
    "layer0.7": "stem.2.norm",
}
_SEMSEG_NAMES = {
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
    return fit_weights(state, _semseg_name, network, architecture=architecture, source=source)


def _semseg_name(name: str) -> str | None:
    return moved_name(name, _SEMSEG_NAMES) or backbone_name(name, _SEMSEG_STEM)


_ICNET_BACKBONE = "pretrained."
_ICNET_CLASSIFIER = "head.conv_cls"
_ICNET_FUSIONS = {"head.cff_24": ("fusion16", "16"), "head.cff_12": ("fusion8", "8")}


def _icnet_names() -> dict[str, str]:
    names = {_ICNET_CLASSIFIER: "classifier"}
    for index in range(3):
        names[f"conv_sub1.{index}.conv"] = f"detail.{index}.conv"
        names[f"conv_sub1.{index}.bn"] = f"detail.{index}.norm"
    for theirs, (fusion, scale) in _ICNET_FUSIONS.items():
        names[f"{theirs}.conv_low_cls"] = f"auxiliary_heads.{scale}"
        for side in ("low", "high"):
            names[f"{theirs}.conv_{side}.0"] = f"{fusion}.{side}.conv"
            names[f"{theirs}.conv_{side}.1"] = f"{fusion}.{side}.norm"
    return names


_ICNET_NAMES = _icnet_names()


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
    network = architecture.build(class_count(state, f"{_ICNET_CLASSIFIER}.weight", source))
    stem = DEEP_STEM if architecture.stem == "deep" else PLAIN_STEM

    def our_name(name: str) -> str | None:
        if name.startswith(_ICNET_BACKBONE):
            return backbone_name(name.removeprefix(_ICNET_BACKBONE), stem)
        return moved_name(name, _ICNET_NAMES)

    return fit_weights(state, our_name, network, architecture=architecture, source=source)
