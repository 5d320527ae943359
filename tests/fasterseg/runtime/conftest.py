from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from fasterseg.engine.checkpoint import DatasetFacts, NetworkCheckpoint, save_network
from fasterseg.networks import Architecture, CellChoice, DerivedNetwork
from fasterseg.runtime.export import export_checkpoint

INPUT_SIZE = (64, 96)


def small_architecture() -> Architecture:
    """Every operator once, both branches, a shared cell."""
    deep = (
        CellChoice("conv_2x", 8, 1, 0.5),
        CellChoice("conv_downup", 8, 2, 0.5),
        CellChoice("skip", 16, 2, 0.5),
        CellChoice("conv_2x_downup", 32, 1, 1.0),
    )
    shallow = (deep[0], CellChoice("conv", 8, 1, 0.5), CellChoice("skip", 8, 1, 1.0))
    return Architecture(4, 1.0, 1.0, (deep, shallow), shared_cells=1)


def random_network(num_classes: int) -> DerivedNetwork:
    """A network whose batch norms and predictions are not trivial."""
    torch.manual_seed(3)
    network = DerivedNetwork(small_architecture(), num_classes)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None and module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="session")
def dataset() -> DatasetFacts:
    return DatasetFacts(
        class_names=("road", "sidewalk", "sky", "car"),
        colors=((128, 64, 128), (244, 35, 232), (70, 130, 180), (0, 0, 142)),
        ignore_index=255,
        mean=(0.3, 0.4, 0.5),
        std=(0.2, 0.25, 0.3),
        label_ids=(7, 8, 23, 26),
    )


@pytest.fixture(scope="session")
def checkpoint(dataset: DatasetFacts) -> NetworkCheckpoint:
    return NetworkCheckpoint(
        architecture=small_architecture(),
        dataset=dataset,
        input_size=INPUT_SIZE,
        weights=random_network(dataset.num_classes).state_dict(),
        origins={"architecture": "0123456789abcdef"},
        scores={"miou": 0.5, "iou_sky": float("nan")},
    )


@pytest.fixture(scope="session")
def tiny_checkpoint(checkpoint: NetworkCheckpoint) -> NetworkCheckpoint:
    """One cell on one branch, for tests that export again and again."""
    architecture = Architecture(2, 1.0, 1.0, ((CellChoice("conv", 8, 1, 1.0),),))
    torch.manual_seed(3)
    weights = DerivedNetwork(architecture, checkpoint.dataset.num_classes).state_dict()
    return replace(checkpoint, architecture=architecture, weights=weights)


@pytest.fixture(scope="session")
def checkpoint_file(checkpoint: NetworkCheckpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_network(path, checkpoint)
    return path


@pytest.fixture(scope="session")
def onnx_file(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "network.onnx"
    export_checkpoint(checkpoint_file, path)
    return path


def street(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random RGB image (H, W, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def write_image(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images of different sizes in different folders, one of them odd, and a file that is no image."""
    root = tmp_path / "images"
    write_image(root / "berlin" / "berlin_000000_000019_leftImg8bit.png", street(64, 96, 1))
    write_image(root / "bonn" / "with space.JPG", street(67, 101, 2))
    (root / "notes.txt").write_text("not an image")
    return root
