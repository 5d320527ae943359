import zipfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fasterseg.base.errors import DamagedFileError
from fasterseg.engine.checkpoint import (
    DatasetFacts,
    NetworkCheckpoint,
    load_network,
    load_state,
    save_network,
    save_state,
    verify_archive,
)
from fasterseg.networks import Architecture, CellChoice, DerivedNetwork

FACTS = DatasetFacts(
    class_names=("road", "sky"),
    colors=((128, 64, 128), (70, 130, 180)),
    ignore_index=255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    label_ids=(7, 23),
)
ARCHITECTURE = Architecture(2, 1.0, 1.0, ((CellChoice("conv", 8, 2, 0.5), CellChoice("skip", 16, 1, 1.0)),))


@pytest.fixture
def checkpoint() -> NetworkCheckpoint:
    torch.manual_seed(0)
    return NetworkCheckpoint(
        architecture=ARCHITECTURE,
        dataset=FACTS,
        input_size=(64, 128),
        weights=DerivedNetwork(ARCHITECTURE, FACTS.num_classes).state_dict(),
        origins={"teacher": "abc"},
        scores={"miou": 0.25},
    )


@pytest.mark.parametrize("label_ids", [(7, 23), None])
def test_network_round_trip(checkpoint: NetworkCheckpoint, tmp_path: Path, label_ids: tuple[int, ...] | None) -> None:
    saved = replace(checkpoint, dataset=replace(FACTS, label_ids=label_ids))
    save_network(tmp_path / "best.pt", saved)
    loaded = load_network(tmp_path / "best.pt", num_classes=2)
    assert replace(loaded, weights={}) == replace(saved, weights={})
    image = torch.randn(1, 3, 64, 64)
    network = loaded.build()
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(network(image).main, checkpoint.build()(image).main)


def test_state_round_trip_with_plain_values(tmp_path: Path) -> None:
    state = {"epoch": 3, "weights": {"a": torch.arange(3)}, "score": 0.5, "names": ["x"], "nothing": None}
    save_state(tmp_path / "last.pt", state)
    loaded = load_state(tmp_path / "last.pt")
    assert torch.equal(loaded.pop("weights")["a"], torch.arange(3))
    assert {name: loaded[name] for name in ("epoch", "score", "names", "nothing")} == {
        "epoch": 3,
        "score": 0.5,
        "names": ["x"],
        "nothing": None,
    }


def test_another_class_count_is_refused_by_name(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    save_network(tmp_path / "best.pt", checkpoint)
    with pytest.raises(ValueError, match=r"best\.pt was trained for 2 classes \(road, sky\), but 19 are asked for"):
        load_network(tmp_path / "best.pt", num_classes=19)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_objects_are_refused_and_never_executed(tmp_path: Path) -> None:
    torch.save({"format": "fasterseg-checkpoint", "weights": Malicious(tmp_path / "proof")}, tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last\.pt cannot be read as a checkpoint of tensors and plain values"):
        load_state(tmp_path / "last.pt")
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_damaged_files_are_refused(checkpoint: NetworkCheckpoint, tmp_path: Path, part: float) -> None:
    save_network(tmp_path / "best.pt", checkpoint)
    data = (tmp_path / "best.pt").read_bytes()
    (tmp_path / "best.pt").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"best\.pt cannot be read as a checkpoint.*damaged"):
        load_network(tmp_path / "best.pt")


def test_a_flipped_bit_is_found_and_named(checkpoint: NetworkCheckpoint, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    save_network(path, checkpoint)
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda each: each.file_size)
        start = data.find(archive.read(largest))
    data[start + largest.file_size // 2] ^= 1
    path.write_bytes(data)
    message = (
        rf"best\.pt cannot be read.*{largest.filename} does not match its checksum; restore it from a copy, or run"
    )
    for load in (load_network, verify_archive):
        with pytest.raises(DamagedFileError, match=message):
            load(path)


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    save_state(path, {"weights": torch.randn(20), "epoch": 3})
    data, expected = path.read_bytes(), load_state(path)
    refused = 0
    for place in range(2, len(data), 3):  # a byte of each kind
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            found = load_state(path)
        except ValueError:
            refused += 1
        else:
            assert torch.equal(found.pop("weights"), expected["weights"]), place
            assert found == {name: value for name, value in expected.items() if name != "weights"}, place
    assert refused > len(data) // 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "dataset: got None"),
        ({"dataset": {}}, r"dataset\.class_names: required"),
        ({"dataset": {**asdict(FACTS), "std": (0.2, 0.0, 0.2)}}, r"std \[0\.2, 0\.0, 0\.2\]"),
        ({"dataset": {**asdict(FACTS), "mean": (0.2, float("nan"), 0.2)}}, r"mean \[0\.2, nan, 0\.2\]"),
        ({"dataset": {**asdict(FACTS), "class_names": ("road", "road")}}, r"class_names are \['road', 'road'\]"),
        ({"dataset": {**asdict(FACTS), "class_names": (1, 2)}}, r"dataset\.class_names\.0: got 1"),
        ({"dataset": {**asdict(FACTS), "colors": ((0, 0, 999), (0, 0, 0))}}, r"colors are \[\(0, 0, 999\)"),
        ({"input_size": [-1, 128]}, r"input_size is \[-1, 128\]"),
        ({"weights": {1: torch.zeros(1)}}, "weights has an entry named 1"),
        ({"scores": None}, "scores: got None"),
    ],
)
def test_a_field_that_is_missing_or_wrong_is_named(
    checkpoint: NetworkCheckpoint, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "best.pt"
    save_network(path, checkpoint)
    save_state(path, {**load_state(path), **change})
    with pytest.raises(ValueError, match=r"best\.pt.*" + message):
        load_network(path)


def test_text_is_no_checkpoint(tmp_path: Path) -> None:
    for content in (b"hello", b"\x80\x02.", bytes(1000), np.random.default_rng(0).bytes(1000)):
        (tmp_path / "best.pt").write_bytes(content)
        with pytest.raises(ValueError, match=r"best\.pt cannot be read as a checkpoint"):
            load_state(tmp_path / "best.pt")


def test_files_of_other_programs_and_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*absent\.pt"):
        load_state(tmp_path / "absent.pt")
    path = tmp_path / "best.pt"
    for other in ({"state_dict": {}}, [1, 2], torch.zeros(3)):
        torch.save(other, path)
        with pytest.raises(ValueError, match=r"best\.pt is not a fasterseg-checkpoint"):
            load_state(path)
    torch.save({"format": "fasterseg-checkpoint", "version": 99}, path)
    with pytest.raises(ValueError, match=r"has format version 99, this release reads 1"):
        load_state(path)
    for kind, words in (
        ("training", "a training state, not a network"),
        ("supernet", "a supernet, not a network"),
        (None, "no network"),
    ):
        save_state(path, {"kind": kind})
        with pytest.raises(ValueError, match=f"is {words}; expected the best.pt"):
            load_network(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "is damaged: dataset: got None"),
        ({"dataset": {**asdict(FACTS), "class_names": ["a", 2]}}, "is damaged: dataset.class_names.1: got 2"),
        ({"dataset": {**asdict(FACTS), "class_names": ["a", "a"]}}, "class_names are .'a', 'a'., expected different"),
        ({"dataset": {**asdict(FACTS), "mean": [1, 2]}}, "is damaged: dataset.mean.2: required, but not set"),
        ({"dataset": {**asdict(FACTS), "std": [0.2, 0.0, 0.2]}}, "expected finite numbers, std above 0"),
        ({"dataset": {**asdict(FACTS), "mean": [0.2, float("nan"), 0.2]}}, "expected finite numbers"),
        ({"dataset": {**asdict(FACTS), "colors": [[0, 0, 999], [1, 1, 1]]}}, "expected three values from 0 to 255"),
        ({"dataset": {**asdict(FACTS), "label_ids": [1]}}, "label_ids lists 1 entries for 2 classes"),
        ({"input_size": [0, 64]}, r"input_size is \[0, 64\], expected sides from 1"),
        ({"input_size": [64, 2**40]}, "expected sides from 1 to 65536"),
        ({"scores": None}, "is damaged: scores: got None"),
        ({"origins": {"a": 1}}, "is damaged: origins.a: got 1"),
        ({"weights": [1]}, "weights is list, expected tensors by name"),
        ({"weights": {1: torch.zeros(1)}}, "weights has an entry named 1, expected names as text"),
        ({"weights": {"a": torch.tensor([0.0, float("nan")])}}, "the weight a holds values that are no numbers"),
        ({"architecture": None}, "is not an architecture"),
    ],
)
def test_damaged_values_are_named(
    checkpoint: NetworkCheckpoint, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "best.pt"
    save_network(path, checkpoint)
    save_state(path, {**load_state(path), **change})
    with pytest.raises(ValueError, match=rf"best\.pt.*{message}"):
        load_network(path)


@pytest.mark.parametrize("name", ["dataset", "architecture", "input_size", "weights", "origins", "scores"])
def test_what_a_checkpoint_lacks_is_named(checkpoint: NetworkCheckpoint, tmp_path: Path, name: str) -> None:
    path = tmp_path / "best.pt"
    save_network(path, checkpoint)
    save_state(path, {key: value for key, value in load_state(path).items() if key != name})
    with pytest.raises(ValueError, match=rf"best\.pt.*{name}"):
        load_network(path)
