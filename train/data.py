"""The batches of a training stage, built from its settings and the dataset on disk."""

from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from dataset_tools.config import DatasetConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription
from dataset_tools.experiment_data import ExperimentData
from dataset_tools.loader import TrainLoader
from fasterseg.engine.checkpoint import DatasetFacts
from train.config import TrainConfig


@dataclass(frozen=True)
class StageData:
    """What a training stage reads.

    Attributes:
        facts: Classes, colours and normalisation, as checkpoints store them.
        training: Augmented crops, epoch by epoch.
        validation: Whole images with labels; this process's share of them.
        test_images: Images of the test split; empty where the stage does not predict it.
        test_root: Folder whose structure the predictions keep; None for all in one folder.
    """

    facts: DatasetFacts
    training: TrainLoader
    validation: DataLoader[LabeledImage]
    test_images: tuple[Path, ...]
    test_root: Path | None


def dataset_facts(description: DatasetDescription) -> DatasetFacts:
    """The facts that a checkpoint stores about a dataset."""
    return DatasetFacts(
        class_names=description.class_names,
        colors=description.colors,
        ignore_index=description.ignore_index,
        mean=description.mean,
        std=description.std,
        label_ids=description.label_ids,
    )


def training_split(data: DatasetConfig, config: TrainConfig) -> str:
    """Name of the split that a stage trains on, or several joined by "+"."""
    return data.train_split if config.split == "train" else f"{data.train_split}+{data.validation_split}"


def splits_read(data: DatasetConfig, config: TrainConfig) -> str:
    """Names of all splits that a stage reads, joined by "+"."""
    predicted = [data.test_split] if config.predict_test_every else []
    return "+".join([data.train_split, data.validation_split, *predicted])


def build_stage_data(data: ExperimentData, *, config: TrainConfig, fabric: Fabric, seed: int) -> StageData:
    """Builds the loaders of a training stage.

    Args:
        data: The dataset.
        config: Crops, batches and scales.
        fabric: The processes that share the batches.
        seed: Decides the order and the augmentation.

    Raises:
        ValueError: A split is unknown or empty.
    """
    description = data.description
    test_images: tuple[Path, ...] = ()
    if config.predict_test_every:
        test_images = tuple(sample.image for sample in description.samples(data.config.test_split))
    inside = all(image.is_relative_to(description.root) for image in test_images)
    return StageData(
        facts=dataset_facts(description),
        training=data.train_loader(config, fabric, seed=seed, split=training_split(data.config, config)),
        validation=data.validation_loader(config.image_scale, fabric),
        test_images=test_images,
        test_root=description.root if inside else None,
    )
