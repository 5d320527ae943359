"""A trained network as a runner runs it, for prediction and evaluation: accuracy is measured on what is deployed."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fasterseg.networks.network import DeployedNetwork
from fasterseg.networks.resizing import Size
from fasterseg.runtime.load import ONNX_SUFFIX, load_card, load_checkpoint
from fasterseg.runtime.predictor import Predictor
from latency.filenames import setup_name
from latency.runners import Runner, SessionBackend
from latency.subjects import Subject


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
        return f"{setup_name(self.runner.conditions())}_{self.input_size[0]}x{self.input_size[1]}"

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
            subject = Subject(path.stem, str(path), None, dataset.num_classes, onnx_path=path)
        else:
            checkpoint = load_checkpoint(path)
            dataset = checkpoint.dataset
            network = DeployedNetwork(checkpoint.build()).eval()
            subject = Subject(path.stem, str(path), None, dataset.num_classes, network=network)
        return Predictor(SessionBackend(subject.prepare(self.runner, self.input_size)), dataset)
