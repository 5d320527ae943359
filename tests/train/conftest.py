"""A dataset, architectures and experiment of the smallest useful size."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fasterseg.networks import Architecture, CellChoice

CLASSES = ("ground", "block", "sky")
COLORS = ((60, 60, 60), (220, 60, 40), (130, 180, 240))
SIZE = (64, 96)
# of the baselines: an eighth of the channels
SMALL = {"width_factor": 0.125, "scales": [1.0]}

WriteDataset = Callable[..., Path]
WriteExperiment = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Networks this small lose time to threads, most of all where tests run side by side."""
    torch.set_num_threads(1)


def draw_sample(random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A block on the ground under a sky: learnable in a few steps."""
    mask = np.zeros(SIZE, np.uint8)
    mask[: random.integers(15, 30)] = 2
    top, left = random.integers(25, 40), random.integers(5, 60)
    mask[top : top + 20, left : left + 25] = 1
    image = np.array(COLORS)[mask] + random.integers(-20, 20, (*SIZE, 3))
    mask[-2:] = 255
    return image.clip(0, 255).astype(np.uint8), mask


@pytest.fixture
def write_dataset(tmp_path: Path) -> WriteDataset:
    """Writes a dataset of colour blocks and returns its folder."""

    def write(name: str = "data", *, classes: tuple[str, ...] = CLASSES, label_ids: bool = False) -> Path:
        root = tmp_path / name
        random = np.random.default_rng(0)
        for split, count in (("train", 8), ("val", 2), ("test", 2)):
            (root / split).mkdir(parents=True)
            lines = []
            for index in range(count):
                image, mask = draw_sample(random)
                Image.fromarray(image).save(root / split / f"{split}_{index}.png")
                Image.fromarray(mask).save(root / split / f"{split}_{index}_mask.png")
                with_mask = f" {split}/{split}_{index}_mask.png" if split != "test" else ""
                lines.append(f"{split}/{split}_{index}.png{with_mask}\n")
            (root / f"{split}.txt").write_text("".join(lines))
        entries = [
            {"name": name, "color": list(COLORS[index % 3]), **({"label_id": 7 + index} if label_ids else {})}
            for index, name in enumerate(classes)
        ]
        splits = {split: f"{split}.txt" for split in ("train", "val", "test")}
        text = yaml.safe_dump({"name": "blocks", "classes": entries, "splits": splits})
        (root / "dataset.yaml").write_text(text)
        return root

    return write


def make_architecture(*, width: float = 1.0) -> Architecture:
    """Branches that end at strides 32 and 16, of one cell each between downs."""
    shared = (CellChoice("conv", 8, 2, width),)
    return Architecture(
        base_channels=2,
        stem_width=width,
        head_width=width,
        branches=(
            (*shared, CellChoice("conv", 16, 2, width)),
            (*shared, CellChoice("conv_2x_downup", 16, 1, width)),
        ),
        shared_cells=1,
    )


@pytest.fixture
def architecture_path(tmp_path: Path) -> Path:
    path = tmp_path / "architecture.json"
    make_architecture().save(path)
    return path


@pytest.fixture
def write_experiment(tmp_path: Path, write_dataset: WriteDataset) -> WriteExperiment:
    """Writes an experiment file with short teacher and student stages and returns its path."""

    def write(*, root: Path | None = None, **training: object) -> Path:
        section = {
            "epochs": 3,
            "iterations_per_epoch": 4,
            "batch_size": 2,
            "crop_size_px": [64, 96],
            "lr": 0.02,
            "log_every": 2,
            "device": {"accelerator": "cpu"},
            **training,
        }
        content = {
            "name": "tiny",
            "seed": 5,
            "dataset": {"root": str(root or write_dataset()), "num_workers": 0},
            "target": {"input_size": list(SIZE), "budget_ms": 10},
            "teacher": section,
            "student": section,
            "baselines": {
                "pspnet50": {"batch_norm": "local", **SMALL, **section},
                "icnet": {"batch_norm": "local", **SMALL, **section},
            },
            "latency": {"rounds": 3, "round_ms": 1, "warmup_ms": 1, "correction_networks": 0, "repeats": 0},
        }
        path = tmp_path / "experiment.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write
