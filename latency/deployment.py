"""Networks as they are deployed: image in, logits at the image's size out, ready for a runner.

A command line names them: a checkpoint, an exported ONNX file, an architecture file, or a preset. They are timed, or
run by a `Predictor`, so that accuracy is measured on what is deployed.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fasterseg.base.experiment import Experiment, dataset_num_classes
from fasterseg.networks.families import AnyArchitecture, build_network, network_specs
from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.operator_specs import OperatorSpec
from fasterseg.networks.presets import resolve_architecture
from fasterseg.networks.resizing import Size
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.load import ONNX_SUFFIX, load_card, load_checkpoint
from fasterseg.runtime.onnx_session import OnnxSession
from fasterseg.runtime.predictor import Predictor
from latency.config import TargetConfig
from latency.runners.base import Runner, Session

CHECKPOINT_SUFFIX = ".pt"


def deployed_network(architecture: AnyArchitecture, num_classes: int) -> DeployedNetwork:
    """The network with fresh weights as it is deployed; times do not depend on the weights."""
    return DeployedNetwork(build_network(architecture, num_classes)).eval()


@dataclass(frozen=True)
class NamedNetwork:
    """A network that a command line names, as it is deployed.

    Attributes:
        name: What it is called in results.
        source: Its file, or the name of a preset.
        specs: Its operators; None for a foreign ONNX file, of which they are not known.
        num_classes: Channels of its logits, likewise.
        network: The module; None for an ONNX file.
        onnx_path: The ONNX file; None for a module.
    """

    name: str
    source: str
    specs: tuple[OperatorSpec, ...] | None
    num_classes: int | None
    network: DeployedNetwork | None = None
    onnx_path: Path | None = None

    def prepare(self, runner: Runner, input_size: Size) -> Session:
        """The network as a runner's session.

        Raises:
            ValueError: The runner cannot run it, or it is an exported file for another input size.
        """
        if self.network is not None:
            return runner.prepare(self.network, (1, 3, *input_size))
        assert self.onnx_path is not None
        session = runner.from_onnx_path(self.onnx_path)
        if session.input_shape[2:] != input_size:
            raise ValueError(
                f"{self.source} takes images of {session.input_shape[2:]}, target.input_size is {input_size}; export "
                "it again for that size, or set target.input_size"
            )
        return session


def load_networks(experiment: Experiment, networks: Sequence[str], *, num_classes: int | None) -> list[NamedNetwork]:
    """The networks that are named, each under a name that no other has.

    Args:
        experiment: Read with the section `target`.
        networks: Checkpoints, architecture files, exported files or presets.
        num_classes: Channels of the logits of networks from architectures; None takes the dataset's.

    Raises:
        FileNotFoundError: There is no such file or preset, or no dataset that says how many classes there are.
        ValueError: A file is damaged.
    """
    size = experiment.section("target", TargetConfig).input_size
    loaded = [_load_network(experiment, text, size=size, num_classes=num_classes) for text in networks]
    names = Counter(network.name for network in loaded)
    return [
        network if names[network.name] == 1 else replace(network, name=network.source.replace("/", "_"))
        for network in loaded
    ]


def find_architecture(text: str, *, num_classes: int) -> AnyArchitecture:
    """The architecture of a network that a command line names, to be predicted at a class count.

    Args:
        text: A checkpoint, an exported file, an architecture file or the name of a preset.
        num_classes: Channels of the logits.

    Raises:
        FileNotFoundError: There is no such file or preset.
        ValueError: The file is damaged or foreign, or was trained for another number of classes.
    """
    path = Path(text)
    if path.suffix.lower() == ONNX_SUFFIX:
        card = load_card(path)
        architecture, dataset = card.architecture, card.dataset
    elif path.suffix.lower() == CHECKPOINT_SUFFIX:
        checkpoint = load_checkpoint(path)
        architecture, dataset = checkpoint.architecture, checkpoint.dataset
    else:
        return resolve_architecture(text)
    if dataset.num_classes != num_classes:
        raise ValueError(
            f"{text} was trained for {dataset.num_classes} classes ({', '.join(dataset.class_names)}), the table is of "
            f"{num_classes}; a table predicts one class count: measure another one with --num-classes "
            f"{dataset.num_classes} and an --out folder of its own"
        )
    return architecture


@dataclass(frozen=True)
class Deployment:
    """What a network is deployed on.

    Attributes:
        runner: Runs it.
        input_size: (height, width) that images are resized to for it.
    """

    runner: Runner
    input_size: Size

    @property
    def name(self) -> str:
        """A short name for folders, such as `openvino_bf16_512x1024`."""
        return f"{self.runner.conditions().setup_name}_{self.input_size[0]}x{self.input_size[1]}"

    def to_dict(self) -> dict[str, Any]:
        """Runner and input size as JSON-ready data."""
        return {**self.runner.conditions().to_dict(), "input_size": list(self.input_size)}

    def load(self, path: Path) -> Predictor:
        """The predictor of a checkpoint, or of a file that `fasterseg export` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged, foreign or of another input size, or the runner cannot run it.
        """
        if path.suffix.lower() == ONNX_SUFFIX:
            dataset = load_card(path).dataset
            network = NamedNetwork(path.stem, str(path), None, dataset.num_classes, onnx_path=path)
        else:
            checkpoint = load_checkpoint(path)
            dataset = checkpoint.dataset
            network = _of_module(path.stem, str(path), DeployedNetwork(checkpoint.build()).eval(), self.input_size)
        return Predictor(SessionBackend(network.prepare(self.runner, self.input_size)), dataset)


class SessionBackend:
    """Computes logits with a runner's session: a `fasterseg.runtime.predictor.Backend`.

    Args:
        session: A deployed network, prepared for batches of one image.

    Attributes:
        fixed_size: The only (height, width) it takes.

    Raises:
        ValueError: The session takes batches of another size.
    """

    def __init__(self, session: Session) -> None:
        batch_size, _, height, width = session.input_shape
        if batch_size != 1:
            raise ValueError(f"the session was prepared for batches of {batch_size}, expected 1")
        self._session = session
        self.fixed_size: Size | None = (height, width)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Maps normalised (N, 3, H, W) to logits (N, num_classes, H, W) on the CPU, image by image."""
        outputs = [self._session.run(image[None].cpu().float().numpy()) for image in images]
        return torch.from_numpy(np.concatenate(outputs))


def _load_network(experiment: Experiment, text: str, *, size: Size, num_classes: int | None) -> NamedNetwork:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ONNX_SUFFIX:
        return _of_onnx_file(path, text, size)
    if suffix == CHECKPOINT_SUFFIX:
        # every stage calls its network best.pt, so a checkpoint goes by its folder's name
        return _of_module(path.resolve().parent.name, text, DeployedNetwork(load_checkpoint(path).build()).eval(), size)
    architecture = resolve_architecture(text)
    network = deployed_network(architecture, num_classes or dataset_num_classes(experiment))
    return _of_module(path.stem, text, network, size)


def _of_module(name: str, source: str, network: DeployedNetwork, size: Size) -> NamedNetwork:
    inner = network.network
    return NamedNetwork(name, source, inner.operator_specs(size), inner.num_classes, network=network)


def _of_onnx_file(path: Path, source: str, size: Size) -> NamedNetwork:
    card_text = OnnxSession(path).metadata.get(METADATA_KEY)
    if card_text is None:
        return NamedNetwork(path.stem, source, None, None, onnx_path=path)
    card = ModelCard.from_json(card_text, source)
    specs = network_specs(card.architecture, card.dataset.num_classes, input_size=size)
    return NamedNetwork(path.stem, source, specs, card.dataset.num_classes, onnx_path=path)
