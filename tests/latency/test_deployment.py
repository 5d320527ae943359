import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.base.experiment import Experiment
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint, save_network
from fasterseg.networks import Architecture, DeployedNetwork, DerivedNetwork, SpaceConfig
from fasterseg.networks.families import build_network
from fasterseg.networks.presets import load_preset
from fasterseg.networks.sampling import random_architecture
from fasterseg.runtime.export import export_checkpoint, onnx_bytes
from fasterseg.runtime.predictor import NetworkBackend, Predictor
from latency.deployment import SessionBackend, find_architecture, load_networks
from latency.runners.selection import RUNNERS
from tests.latency.runners.test_base import searched, with_statistics

FACTS = DatasetFacts(("road", "car", "sky"), ((0, 0, 0),) * 3, 255, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def architecture(space: SpaceConfig) -> Architecture:
    return random_architecture(space, "student", random.Random(0))


@pytest.fixture
def checkpoint(architecture: Architecture, tmp_path: Path) -> Path:
    path = tmp_path / "student" / "best.pt"
    save_network(path, NetworkCheckpoint(architecture, FACTS, (64, 96), build_network(architecture, 3).state_dict()))
    return path


def test_the_class_count_comes_from_the_option_or_the_dataset(experiment: Experiment) -> None:
    for num_classes, expected in ((7, 7), (None, 3)):
        (named,) = load_networks(experiment, ["icnet-half"], num_classes=num_classes)
        assert named.network is not None
        assert (named.network.network.num_classes, named.num_classes) == (expected, expected)


def test_networks_of_one_name_are_told_apart(experiment: Experiment, space: SpaceConfig, tmp_path: Path) -> None:
    files = [tmp_path / name / "student.json" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        random_architecture(space, "student", random.Random(0)).save(file)
    names = {named.name for named in load_networks(experiment, [str(file) for file in files], num_classes=3)}
    assert len(names) == 2 and not any("/" in name for name in names)


def test_every_file_that_holds_an_architecture_gives_it(
    architecture: Architecture, checkpoint: Path, tmp_path: Path
) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "student.onnx").path
    architecture.save(tmp_path / "student.json")
    for file in (checkpoint, exported, tmp_path / "student.json"):
        assert find_architecture(str(file), num_classes=3) == architecture
    assert find_architecture("icnet-half", num_classes=3) == load_preset("icnet-half")


def test_a_trained_network_of_other_classes_has_no_place_in_the_table(checkpoint: Path, tmp_path: Path) -> None:
    exported = export_checkpoint(checkpoint, tmp_path / "student.onnx").path
    for file in (checkpoint, exported):
        with pytest.raises(
            ValueError, match=r"trained for 3 classes \(road, car, sky\), the table is of 19; .*-classes 3"
        ):
            find_architecture(str(file), num_classes=19)


def test_what_holds_no_architecture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "foreign.onnx"
    path.write_bytes(onnx_bytes(nn.Conv2d(3, 4, 3).eval(), (1, 3, 64, 96)))
    with pytest.raises(ValueError, match=r"foreign\.onnx carries no 'fasterseg' metadata"):
        find_architecture(str(path), num_classes=4)
    for name in ("absent.pt", "absent.onnx", "absent"):
        with pytest.raises(FileNotFoundError, match=name):
            find_architecture(str(tmp_path / name), num_classes=3)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "pytorch"])
def test_a_predictor_scores_what_the_runner_runs(name: str) -> None:
    torch.manual_seed(0)
    network = DerivedNetwork(searched(1), 3)
    with_statistics(network)
    session = RUNNERS[name]().prepare(DeployedNetwork(network).eval(), (1, 3, 64, 96))
    images = torch.randn(2, 3, 64, 96)
    deployed = Predictor(SessionBackend(session), FACTS)
    expected = Predictor(NetworkBackend(network), FACTS)
    logits = expected.logits(images).numpy()
    np.testing.assert_allclose(deployed.logits(images).numpy(), logits, atol=1e-4 * np.abs(logits).max())
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert (deployed.predict(image) == expected.predict(image)).mean() > 0.99


def test_batches_are_refused() -> None:
    session = RUNNERS["pytorch"]().prepare(nn.Identity(), (2, 3, 8, 8))
    with pytest.raises(ValueError, match="prepared for batches of 2, expected 1"):
        SessionBackend(session)
