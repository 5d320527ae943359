from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataset_tools.convert.bdd100k import read_bdd100k
from dataset_tools.convert.output import OutputOptions, write_dataset

MASK = [[0, 1, 2, 18, 255, 255], [13] * 6, [0] * 6, [10] * 6]


def test_layout_of_10k(
    tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    root = tmp_path / "bdd100k"
    for split in ("train", "val", "test"):
        picture(root / "images" / "10k" / split / "0a0a0b1a-7c39d841.jpg")
    for split in ("train", "val"):
        grey(root / "labels" / "sem_seg" / "masks" / split / "0a0a0b1a-7c39d841.png", MASK)
    dataset = read_bdd100k(root)
    assert dataset.classes.names[18] == "bicycle"
    assert convert(dataset) == {
        "test": {"0a0a0b1a-7c39d841": None},
        "train": {"0a0a0b1a-7c39d841": MASK},
        "val": {"0a0a0b1a-7c39d841": MASK},
    }


def test_older_layout(
    tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path], convert: Callable[..., Any]
) -> None:
    picture(tmp_path / "seg" / "images" / "train" / "a.jpg")
    grey(tmp_path / "seg" / "labels" / "train" / "a_train_id.png", MASK)
    assert convert(read_bdd100k(tmp_path / "seg")) == {"train": {"a": MASK}}


def test_wrong_sources(tmp_path: Path, picture: Callable[..., Path], grey: Callable[..., Path]) -> None:
    with pytest.raises(FileNotFoundError, match="labels/sem_seg/masks"):
        read_bdd100k(tmp_path)
    picture(tmp_path / "seg" / "images" / "train" / "a.jpg")
    grey(tmp_path / "seg" / "labels" / "train" / "b_train_id.png", MASK)
    with pytest.raises(ValueError, match=r"no mask for .*a\.jpg(.|\n)*no image for .*b_train_id\.png"):
        read_bdd100k(tmp_path / "seg")
    (tmp_path / "seg" / "labels" / "train" / "b_train_id.png").unlink()
    grey(tmp_path / "seg" / "labels" / "train" / "a_train_id.png", [[19] * 6] * 4)
    with pytest.raises(ValueError, match=r"unknown values: 19 \(24 pixels\)"):
        write_dataset(read_bdd100k(tmp_path / "seg"), tmp_path / "out", OutputOptions(progress=False))
