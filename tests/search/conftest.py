from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml

from dataset_tools.dataset import Sample
from dataset_tools.description import DatasetDescription, save_description
from fasterseg.base.experiment import load_experiment
from fasterseg.networks import SpaceConfig
from fasterseg.networks.reachable import reachable_specs
from latency.config import LatencyConfig
from latency.runners.base import Conditions
from latency.table import LatencyTable, TableEntry, TableTarget
from search import pretrain, trainer

INPUT_SIZE = (64, 96)
CLASSES = ("ground", "block", "sky")
FACTORS = {"conv": 9, "conv_2x": 18, "conv_downup": 3, "conv_2x_downup": 5}


@contextmanager
def threads_are(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with threads_are(1):
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    with threads_are(2):
        yield


@pytest.fixture(scope="session")
def space() -> SpaceConfig:
    return SpaceConfig(layers=8, base_channels=2, widths=(0.5, 1.0), student_width=0.5)


def write_dataset(root: Path, *, train: int = 8, val: int = 2) -> None:
    """Bright blocks on a dark ground under a sky: learnable in a few steps."""
    random = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("val", val)):
        (root / split).mkdir(parents=True)
        samples = []
        for index in range(count):
            mask = np.zeros(INPUT_SIZE, np.uint8)
            mask[: random.integers(15, 30)] = 2
            top, left = random.integers(25, 40), random.integers(5, 60)
            mask[top : top + 20, left : left + 25] = 1
            colors = np.array([[60, 60, 60], [220, 60, 40], [130, 180, 240]], np.uint8)
            image = colors[mask].astype(int) + random.integers(-20, 20, (*INPUT_SIZE, 3))
            paths = root / split / f"{index}.png", root / split / f"{index}_mask.png"
            cv2.imwrite(str(paths[0]), np.clip(image, 0, 255).astype(np.uint8)[..., ::-1])
            cv2.imwrite(str(paths[1]), mask)
            samples.append(Sample(*paths))
        splits[split] = tuple(samples)
    save_description(DatasetDescription(root, "blocks", CLASSES, ((0, 0, 0), (1, 1, 1), (2, 2, 2)), splits))


def make_table(space: SpaceConfig) -> LatencyTable:
    """A table with made-up times that grow with channels and map size."""
    entries = {}
    for spec in reachable_specs(space, len(CLASSES), input_size=INPUT_SIZE):
        cost = 1e-6 * spec.in_channels * getattr(spec, "out_channels", 8) * spec.height * spec.width
        cost *= FACTORS.get(getattr(spec, "operator", ""), 1) / getattr(spec, "stride", 1) ** 2
        entries[spec] = table_entry(cost + 1e-3)
    return LatencyTable(
        target=TableTarget("onnxruntime", "cpu", "fp32", 1, INPUT_SIZE, len(CLASSES)),
        space=space,
        conditions=Conditions("onnxruntime", "cpu", "a processor", 1, "fp32", {"torch": "2"}),
        protocol=LatencyConfig(rounds=3, round_ms=0.2, warmup_ms=0.1, repeats=0, correction_networks=0),
        created="2026-01-01T00:00:00+00:00",
        entries=entries,
        reference_ms=1.0,
    )


def table_entry(median_ms: float) -> TableEntry:
    return TableEntry(
        median_ms=median_ms,
        p95_ms=2 * median_ms,
        spread=0.01,
        count=9,
        disturbed_count=0,
        stable=True,
        reference_ms=1.0,
    )


@pytest.fixture(scope="session")
def table(space: SpaceConfig) -> LatencyTable:
    return make_table(space)


@pytest.fixture(scope="session")
def dataset_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blocks")
    write_dataset(root)
    return root


def write_experiment(folder: Path, dataset_root: Path, space: SpaceConfig, table: LatencyTable) -> Path:
    """An experiment of a few seconds; its table lies beside it."""
    steps = {"iterations_per_epoch": 2, "batch_size": 2, "crop_size_px": [64, 96], "image_scale": 1.0, "scales": [1.0]}
    sections = {
        "name": "tiny",
        "dataset": {"root": str(dataset_root), "num_workers": 0},
        "target": {"runner": "onnxruntime", "input_size": list(INPUT_SIZE), "budget_share": 0.3},
        "space": space.model_dump(mode="json"),
        "pretrain": {"epochs": 2, **steps},
        "search": {"epochs": 2, "architecture": {"lr": 0.05}, **steps},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(sections))
    table.save(folder / "latency_table.json")
    return path


class Runner:
    """Runs the two stages of an experiment into folders beside its file."""

    def __init__(self, file: Path, pretrained: Path | None = None) -> None:
        self.folder = file.parent
        self.file = file
        self.pretrained = pretrained

    def pretrain(self, name: str = "pretrain", *settings: str) -> Path:
        return pretrain.run_pretrain(load_experiment(self.file, settings, pretrain.SECTIONS), out=self.folder / name)

    def search(self, name: str = "search", *settings: str, pretrained: Path | None = None) -> Path:
        supernet = pretrained or self.pretrained
        assert supernet is not None
        return trainer.run_search(
            load_experiment(self.file, settings, trainer.SECTIONS),
            out=self.folder / name,
            table_path=self.folder / "latency_table.json",
            pretrained_path=supernet,
        )


@pytest.fixture(scope="session")
def pretrained(
    tmp_path_factory: pytest.TempPathFactory, dataset_root: Path, space: SpaceConfig, table: LatencyTable
) -> Path:
    """A pretrained supernet that the tests of the search share."""
    file = write_experiment(tmp_path_factory.mktemp("pretrained"), dataset_root, space, table)
    return Runner(file).pretrain()


@pytest.fixture
def runner(tmp_path: Path, dataset_root: Path, space: SpaceConfig, table: LatencyTable, pretrained: Path) -> Runner:
    return Runner(write_experiment(tmp_path, dataset_root, space, table), pretrained)
