"""ImageNet weights of a ResNet50 into a baseline's backbone: torchvision's own, or those of a deep stem (v1s)."""

from collections.abc import Mapping
from typing import TypeVar

import torch

from fasterseg.networks.channels import StemKind
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.backbone import DEEP_STEM, PLAIN_STEM, backbone_name
from fasterseg.runtime.importers.weights import ImportedWeights, fit_weights

BaselineT = TypeVar("BaselineT", ICNetArchitecture, PSPNetArchitecture)

_STEMS: dict[StemKind, dict[str, str]] = {"plain": PLAIN_STEM, "deep": DEEP_STEM}
# the stems put out different channel counts, so these read maps of another width
_BEHIND_STEM = ("layer1.0.conv1.weight", "layer1.0.downsample.0.weight")


def import_resnet50(
    state: Mapping[str, torch.Tensor], architecture: BaselineT, *, num_classes: int, source: str
) -> ImportedWeights[BaselineT]:
    """A baseline that starts from ImageNet weights.

    A stem other than the architecture's is dropped, with the two weights that read its output; the ImageNet
    classifier always is.

    Args:
        state: State dict of torchvision's `resnet50`, or of a ResNet50-v1s whose stem is `conv1.{0,1,3,4,6}`, `bn1`.
        architecture: The baseline to initialise.
        num_classes: Its channels of the logits.
        source: What an error message calls the state dict.

    Raises:
        ValueError: A tensor does not fit, or nothing does.
    """
    file_stem: StemKind = "deep" if "conv1.0.weight" in state else "plain"
    same_stem = file_stem == architecture.stem

    def our_name(name: str) -> str | None:
        if not same_stem and name in _BEHIND_STEM:
            return None
        return backbone_name(name, _STEMS[file_stem] if same_stem else {})

    network = architecture.build(num_classes)
    return fit_weights(state, our_name, network, architecture=architecture, source=source)
