"""An experiment's dataset: what its loaders give, and what of its section decides a result."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from dataset_tools.config import CropConfig, DatasetConfig
from dataset_tools.description import DatasetDescription
from dataset_tools.experiment_data import ExperimentData
from fasterseg.base.experiment import load_experiment

CROPS = CropConfig(batch_size=1, crop_size_px=(32, 32), scales=(1.0,))
ALONE = SimpleNamespace(global_rank=0, world_size=1)


@pytest.fixture
def data(make_dataset: Callable[..., DatasetDescription]) -> ExperimentData:
    description = make_dataset()
    return ExperimentData(DatasetConfig(root=description.root, num_workers=0), description)


def names(loader: object) -> list[str]:
    return [name for batch in loader for name in batch.name]  # type: ignore[attr-defined]


def test_it_is_read_from_the_experiment(data: ExperimentData, tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(f"dataset: {{root: {data.description.root}, num_workers: 0}}\n")
    assert ExperimentData.load(load_experiment(file, [], {"dataset": DatasetConfig})) == data
    assert set(data.settings()) == {"root", "train_split", "validation_split", "test_split"}


def test_processes_share_the_images_and_halves_share_none(data: ExperimentData) -> None:
    images = {sample.image.stem for sample in data.description.samples("train")}
    both = [SimpleNamespace(global_rank=rank, world_size=2) for rank in (0, 1)]
    shares = [set(names(data.train_loader(CROPS, processes, seed=0))) for processes in both]
    assert shares[0] | shares[1] == images
    first = set(names(data.train_loader(CROPS, ALONE, seed=0, subset="first_half")))
    second = set(names(data.train_loader(CROPS, ALONE, seed=0, subset="second_half")))
    assert first and second and not first & second


def test_an_epoch_is_as_long_as_told(data: ExperimentData) -> None:
    assert len(data.train_loader(CROPS, ALONE, seed=0)) == 5
    assert len(data.train_loader(CROPS, ALONE, seed=0, split="train+val")) == 7
    assert len(data.train_loader(CROPS, ALONE, seed=0, iterations_per_epoch=9)) == 9


def test_validation_images_come_in_list_order_and_as_many_as_asked_for(data: ExperimentData) -> None:
    images = [sample.image.stem for sample in data.description.samples("val")]
    assert names(data.validation_loader(1.0)) == images
    assert names(data.validation_loader(1.0, most=1)) == images[:1]
    assert names(data.validation_loader(1.0, ALONE, most=len(images) + 5)) == images


def test_a_crop_that_no_stride_divides_is_refused() -> None:
    with pytest.raises(ValueError, match="crop_size_px"):
        CropConfig(batch_size=1, crop_size_px=(33, 32))
