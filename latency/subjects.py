"""The networks that a command line names: a checkpoint, an exported ONNX file, an architecture file, or a preset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fasterseg.base.experiment import Experiment, dataset_num_classes
from fasterseg.networks.families import AnyArchitecture, network_specs
from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.presets import resolve_architecture
from fasterseg.networks.resizing import Size
from fasterseg.networks.specs import OperatorSpec
from fasterseg.runtime.card import METADATA_KEY, ModelCard
from fasterseg.runtime.load import ONNX_SUFFIX, load_card, load_checkpoint
from fasterseg.runtime.onnx_session import OnnxSession
from latency.config import TargetConfig
from latency.correction import deployed_network
from latency.runners import Runner, Session
from latency.table import LatencyTable

CHECKPOINT_SUFFIX = ".pt"


@dataclass(frozen=True)
class Subject:
    """A network to be timed.

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


def load_subjects(
    experiment: Experiment, networks: Sequence[str], *, num_classes: int | None, table: LatencyTable | None
) -> list[Subject]:
    """The networks that are named, each with a name of its own; see `latency.measure.run_measure`."""
    size = experiment.section("target", TargetConfig).input_size
    if num_classes is None and table is not None:
        num_classes = table.target.num_classes
    subjects = [_load_subject(experiment, text, size=size, num_classes=num_classes) for text in networks]
    names = Counter(subject.name for subject in subjects)
    return [
        subject if names[subject.name] == 1 else replace(subject, name=subject.source.replace("/", "_"))
        for subject in subjects
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


def _load_subject(experiment: Experiment, text: str, *, size: Size, num_classes: int | None) -> Subject:
    path = Path(text)
    suffix = path.suffix.lower()
    if suffix == ONNX_SUFFIX:
        if not path.is_file():
            raise FileNotFoundError(f"no ONNX file at {path}; `fasterseg export` writes one")
        return _exported_subject(path, text, size)
    if suffix == CHECKPOINT_SUFFIX:
        network = DeployedNetwork(load_checkpoint(path).build()).eval()
        # every stage calls its network best.pt, so a checkpoint goes by its folder's name
        return _module_subject(path.resolve().parent.name, text, network, size)
    architecture = resolve_architecture(text)
    network = deployed_network(architecture, num_classes or dataset_num_classes(experiment))
    return _module_subject(path.stem, text, network, size)


def _module_subject(name: str, source: str, network: DeployedNetwork, size: Size) -> Subject:
    inner = network.network
    return Subject(name, source, inner.operator_specs(size), inner.num_classes, network=network)


def _exported_subject(path: Path, source: str, size: Size) -> Subject:
    card_text = OnnxSession(path).metadata.get(METADATA_KEY)
    if card_text is None:
        return Subject(path.stem, source, None, None, onnx_path=path)
    card = ModelCard.from_json(card_text, source)
    specs = network_specs(card.architecture, card.dataset.num_classes, input_size=size)
    return Subject(path.stem, source, specs, card.dataset.num_classes, onnx_path=path)
