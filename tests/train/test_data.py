"""Which images a training stage reads."""

from collections.abc import Callable
from pathlib import Path

import pytest

from dataset_tools.config import DatasetConfig
from dataset_tools.description import load_description
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.devices import DeviceConfig
from fasterseg.engine.devices import build_fabric
from train.config import TeacherConfig
from train.data import StageData, build_stage_data, dataset_facts


def build(root: Path, config: TeacherConfig) -> StageData:
    fabric = build_fabric(DeviceConfig(accelerator="cpu"))
    data = DatasetConfig(root=root, num_workers=0)
    return build_stage_data(ExperimentData(data, load_description(root)), config=config, fabric=fabric, seed=0)


@pytest.mark.parametrize(("split", "images"), [("train", 8), ("train_val", 10)])
def test_train_val_adds_the_validation_images(write_dataset: Callable[..., Path], split: str, images: int) -> None:
    config = TeacherConfig.model_validate(
        {"split": split, "iterations_per_epoch": images, "batch_size": 1, "crop_size_px": (64, 96)}
    )
    loader = build(write_dataset(), config).training
    loader.set_epoch(0)
    names = [name for batch in loader for name in batch.name]
    assert len(set(names)) == images == len(names)
    assert ("val_0" in names) == (split == "train_val")


def test_test_images_are_listed_only_where_they_are_predicted(write_dataset: Callable[..., Path]) -> None:
    root = write_dataset()
    small = {"iterations_per_epoch": 1, "batch_size": 1, "crop_size_px": (64, 96)}
    assert build(root, TeacherConfig.model_validate(small)).test_images == ()
    data = build(root, TeacherConfig.model_validate({**small, "predict_test_every": 2}))
    assert [path.name for path in data.test_images] == ["test_0.png", "test_1.png"]
    assert data.test_root == root


def test_facts_are_those_of_the_dataset(write_dataset: Callable[..., Path]) -> None:
    facts = dataset_facts(load_description(write_dataset(label_ids=True)))
    assert facts.class_names == ("ground", "block", "sky")
    assert facts.label_ids == (7, 8, 9)
    assert (facts.ignore_index, facts.num_classes) == (255, 3)
