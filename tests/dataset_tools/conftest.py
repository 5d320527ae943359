"""Small datasets on disk for the tests of this room."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from dataset_tools.description import DatasetDescription, load_description, save_description
from dataset_tools.masks import write_mask
from dataset_tools.samples import Sample

SIZE = (48, 80)

# The same examples in every run; how long one takes depends on what else the machine does.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None, max_examples=60)
settings.load_profile("repeatable")


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., DatasetDescription]:
    """Builds a dataset of three classes with `train` and `val` images; names hold a space."""

    def build(train: int = 5, val: int = 2, size: tuple[int, int] = SIZE) -> DatasetDescription:
        root = tmp_path / "data set"
        generator = np.random.default_rng(3)
        splits = {}
        for split, count in (("train", train), ("val", val)):
            samples = []
            for number in range(count):
                image = root / split / f"street {number}.png"
                mask = root / f"{split}annot" / f"street {number}.png"
                image.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(image), generator.integers(0, 255, (*size, 3), np.uint8))
                label = generator.integers(0, 3, size).astype(np.uint8)
                label[0, :5] = 255
                write_mask(mask, label)
                samples.append(Sample(image, mask))
            splits[split] = tuple(samples)
        save_description(
            DatasetDescription(
                root=root,
                name="tiny",
                class_names=("road", "car", "sky"),
                colors=((128, 64, 128), (0, 0, 142), (70, 130, 180)),
                splits=splits,
            )
        )
        return load_description(root)

    return build


CLASS_NAMES = ("road", "car", "sky")
COLORS = ((128, 64, 128), (0, 0, 142), (70, 130, 180))


def scene(seed: int) -> NDArray[np.uint8]:
    """A smooth random picture: two seeds give two quite different ones."""
    coarse = np.random.default_rng(seed).integers(20, 230, (9, 9, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def stripes() -> NDArray[np.uint8]:
    """Train ids: every class, and some ignored pixels."""
    label = np.repeat(np.arange(3, dtype=np.uint8), SIZE[0] // 3)[:, None].repeat(SIZE[1], axis=1)
    label[0, :5] = 255
    return label


@pytest.fixture
def clean(tmp_path: Path) -> Callable[..., DatasetDescription]:
    """Builds the dataset: `train 0.png` to `train 3.png` and two of `val`, or the names that are given."""

    def build(names: Sequence[str] | None = None) -> DatasetDescription:
        root = tmp_path / "data set"
        splits: dict[str, tuple[Sample, ...]] = {}
        seed = 0
        for split, count in (("train", 4), ("val", 2)):
            samples = []
            for name in names or [f"{split} {number}.png" for number in range(count)]:
                image, mask = root / split / name, root / f"{split}annot" / f"{name}.png"
                image.parent.mkdir(parents=True, exist_ok=True)
                encoded, data = cv2.imencode(".png", scene(seed))
                assert encoded
                image.write_bytes(data.tobytes())
                write_mask(mask, stripes())
                samples.append(Sample(image, mask))
                seed += 1
            splits[split] = tuple(samples)
        save_description(DatasetDescription(root, "tiny", CLASS_NAMES, COLORS, splits))
        return load_description(root)

    return build
