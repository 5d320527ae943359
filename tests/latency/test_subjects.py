import random
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from fasterseg.base.experiment import Experiment
from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint, save_network
from fasterseg.networks import Architecture, SpaceConfig
from fasterseg.networks.families import build_network
from fasterseg.networks.presets import load_preset
from fasterseg.runtime.export import export_checkpoint, onnx_bytes
from latency.sampling import random_architecture
from latency.subjects import find_architecture, load_subjects
from latency.table import LatencyTable

FACTS = DatasetFacts(("road", "car", "sky"), ((0, 0, 0),) * 3, 255, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture
def architecture(space: SpaceConfig) -> Architecture:
    return random_architecture(space, "student", random.Random(0))


@pytest.fixture
def checkpoint(architecture: Architecture, tmp_path: Path) -> Path:
    path = tmp_path / "student" / "best.pt"
    save_network(path, NetworkCheckpoint(architecture, FACTS, (64, 96), build_network(architecture, 3).state_dict()))
    return path


def test_the_class_count_comes_from_the_option_then_the_table_then_the_dataset(
    experiment: Experiment, table: LatencyTable
) -> None:
    def classes(num_classes: int | None, table: LatencyTable | None) -> tuple[int, int | None]:
        (subject,) = load_subjects(experiment, ["icnet-half"], num_classes=num_classes, table=table)
        assert subject.network is not None
        return subject.network.network.num_classes, subject.num_classes

    of_five = replace(table, target=replace(table.target, num_classes=5))
    assert (classes(7, of_five), classes(None, of_five), classes(None, None)) == ((7, 7), (5, 5), (3, 3))


def test_networks_of_one_name_are_told_apart(experiment: Experiment, space: SpaceConfig, tmp_path: Path) -> None:
    files = [tmp_path / name / "student.json" for name in "ab"]
    for file in files:
        file.parent.mkdir()
        random_architecture(space, "student", random.Random(0)).save(file)
    subjects = load_subjects(experiment, [str(file) for file in files], num_classes=3, table=None)
    assert len({subject.name for subject in subjects}) == 2 and not any("/" in subject.name for subject in subjects)


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
