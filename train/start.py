"""The start of a training stage: random weights, ImageNet weights, or those of another network.

A start is an architecture with the weights that are known. The others are initialised randomly after the stage is
seeded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from fasterseg.base.files import file_digest
from fasterseg.engine.checkpoint import NetworkCheckpoint
from fasterseg.networks import AnyArchitecture, Network, build_network, load_architecture
from fasterseg.networks.icnet import ICNetArchitecture
from fasterseg.networks.pruned import base_architecture
from fasterseg.networks.pspnet import PSPNetArchitecture
from fasterseg.runtime.importers.baselines import import_resnet50, transfer_backbone
from fasterseg.runtime.importers.restricted import load_foreign
from fasterseg.runtime.importers.weights import ImportedWeights, reference_state
from fasterseg.runtime.load import load_checkpoint
from train.config import BaselineConfig, BaselineName

BaselineArchitecture = ICNetArchitecture | PSPNetArchitecture


@dataclass(frozen=True)
class NetworkStart:
    """What training starts from.

    Attributes:
        architecture: The architecture to train.
        origins: Hashes of the source files, by role.
        weights: The weights that are known, by name; all others are initialised randomly.
    """

    architecture: AnyArchitecture
    origins: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def build(self, num_classes: int) -> Network:
        """The network with the known weights; initialises the others randomly."""
        network = build_network(self.architecture, num_classes)
        unexpected = network.load_state_dict(dict(self.weights), strict=False).unexpected_keys
        assert not unexpected, f"a start holds weights that its architecture lacks: {unexpected}"
        return network


def start_fresh(architecture_path: Path) -> NetworkStart:
    """A start from an architecture file, without weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not an architecture.
    """
    return NetworkStart(load_architecture(architecture_path), {"architecture": file_digest(architecture_path)})


def start_from_checkpoint(path: Path, *, num_classes: int) -> NetworkStart:
    """A start from all weights of a trained or pruned network with the same number of classes.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no network checkpoint, or of another class count.
    """
    checkpoint = load_checkpoint(path)
    _check_classes(checkpoint, path, num_classes)
    return NetworkStart(checkpoint.architecture, {"start": file_digest(path)}, checkpoint.weights)


def start_baseline(
    name: BaselineName, config: BaselineConfig, *, num_classes: int, start_from: Path | None = None
) -> NetworkStart:
    """The start that a baseline's section asks for.

    Args:
        name: The baseline.
        config: Its section.
        num_classes: Channels of the logits.
        start_from: Checkpoint that replaces the section's `start_from`.

    Raises:
        FileNotFoundError: A file that it names is missing; for ImageNet weights the message says where to get them.
        ValueError: A file does not fit the baseline.
    """
    family = PSPNetArchitecture if name == "pspnet50" else ICNetArchitecture
    architecture = family(stem=config.stem, width_factor=config.width_factor)
    path = start_from or config.start_from
    if path is not None:
        return _start_from(path, name, architecture, num_classes=num_classes)
    if config.imagenet_weights is not None:
        return _start_from_imagenet(config.imagenet_weights, name, architecture, num_classes=num_classes)
    return NetworkStart(architecture)


def _start_from(
    path: Path, name: BaselineName, architecture: BaselineArchitecture, *, num_classes: int
) -> NetworkStart:
    """All weights of the same baseline, or a PSPNet50's backbone for ICNet."""
    checkpoint = load_checkpoint(path)
    base = base_architecture(checkpoint.architecture)
    if isinstance(base, type(architecture)):
        if base != architecture:
            raise ValueError(
                f"{path} holds a network of {base}, but baselines.{name} asks for {architecture}; set "
                f"baselines.{name}.stem and width_factor to those of the checkpoint"
            )
        _check_classes(checkpoint, path, num_classes)
        return NetworkStart(checkpoint.architecture, {"start": file_digest(path)}, checkpoint.weights)
    if isinstance(architecture, ICNetArchitecture) and isinstance(checkpoint.architecture, PSPNetArchitecture):
        taken = transfer_backbone(checkpoint.weights, architecture, num_classes=num_classes, source=str(path))
        return NetworkStart(architecture, {"backbone": file_digest(path)}, _known(taken))
    raise ValueError(
        f"{path} holds a network of {type(checkpoint.architecture).__name__}, which {name} cannot start from; name a "
        f"checkpoint of {name}" + (" or of an unpruned PSPNet50" if name == "icnet" else "")
    )


def _start_from_imagenet(
    path: Path, name: BaselineName, architecture: BaselineArchitecture, *, num_classes: int
) -> NetworkStart:
    if not path.is_file():
        raise FileNotFoundError(
            f"no ImageNet weights at {path} (baselines.{name}.imagenet_weights); download torchvision's ResNet50 "
            "(https://download.pytorch.org/models/resnet50-0676ba61.pth) to that name, for stem plain one to one and "
            "for stem deep all but the stem, or set imagenet_weights to null to start from scratch"
        )
    state = reference_state(load_foreign(path), str(path))
    imported: ImportedWeights[ICNetArchitecture] | ImportedWeights[PSPNetArchitecture]
    if isinstance(architecture, ICNetArchitecture):
        imported = import_resnet50(state, architecture, num_classes=num_classes, source=str(path))
    else:
        imported = import_resnet50(state, architecture, num_classes=num_classes, source=str(path))
    return NetworkStart(architecture, {"imagenet": file_digest(path)}, _known(imported))


def _known(
    imported: ImportedWeights[ICNetArchitecture] | ImportedWeights[PSPNetArchitecture],
) -> dict[str, torch.Tensor]:
    """The weights from the file, without those that have fresh values."""
    return {name: value for name, value in imported.weights.items() if name not in imported.uninitialised}


def _check_classes(checkpoint: NetworkCheckpoint, path: Path, num_classes: int) -> None:
    if checkpoint.dataset.num_classes != num_classes:
        raise ValueError(
            f"{path} was trained for {checkpoint.dataset.num_classes} classes, the dataset has {num_classes}; start "
            "from a network of this dataset, or train on that one"
        )
