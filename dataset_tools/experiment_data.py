"""The dataset that an experiment file names, as every stage of training and search reads it."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from torch.utils.data import DataLoader

from dataset_tools.config import CropConfig, DatasetConfig
from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription, load_description
from dataset_tools.doctor.examine import verify_split
from dataset_tools.loader import Subset, TrainLoader, build_eval_loader, build_train_loader
from fasterseg.base.experiment import Experiment


class Processes(Protocol):
    """The processes that share the images, such as those of a Lightning Fabric."""

    @property
    def global_rank(self) -> int:
        """Number of this process."""

    @property
    def world_size(self) -> int:
        """How many there are."""


@dataclass(frozen=True)
class ExperimentData:
    """An experiment's dataset.

    Attributes:
        config: The `dataset` section.
        description: What the dataset holds.
    """

    config: DatasetConfig
    description: DatasetDescription

    @classmethod
    def load(cls, experiment: Experiment) -> Self:
        """The dataset of an experiment that was read with its section `dataset`.

        Raises:
            FileNotFoundError: There is no dataset at `dataset.root`.
            ValueError: Its `dataset.yaml` is wrong.
        """
        config = experiment.section("dataset", DatasetConfig)
        return cls(config, load_description(config.root))

    def settings(self) -> dict[str, Any]:
        """What of the section decides a result, as plain data."""
        return self.config.model_dump(mode="json", exclude={"num_workers", "synthesize"})

    def check(self, split: str) -> None:
        """Refuses splits that cannot be read; see `dataset_tools.doctor.examine.verify_split`.

        Args:
            split: Name of the split, or several joined by "+".

        Raises:
            ValueError: A file is missing or does not fit; the message names it.
        """
        verify_split(self.description, split)

    def train_loader(
        self,
        crops: CropConfig,
        processes: Processes,
        *,
        seed: int,
        split: str | None = None,
        subset: Subset = "all",
        iterations_per_epoch: int | None = None,
    ) -> TrainLoader:
        """Augmented crops, epoch by epoch; this process's share of them.

        Args:
            crops: How they are cut and how many make an epoch.
            processes: Those that share them.
            seed: Decides order, augmentation and halves.
            split: Name of the split, or several joined by "+"; the training split if None.
            subset: All images or one of the search's two halves.
            iterations_per_epoch: Instead of that of `crops`.

        Raises:
            ValueError: The split is unknown or empty.
        """
        return build_train_loader(
            self.description,
            split=split or self.config.train_split,
            crop_size_px=crops.crop_size_px,
            batch_size=crops.batch_size,
            iterations_per_epoch=iterations_per_epoch or crops.iterations_per_epoch,
            scales=crops.scales,
            image_scale=crops.image_scale,
            seed=seed,
            num_workers=self.config.num_workers,
            subset=subset,
            rank=processes.global_rank,
            world_size=processes.world_size,
        )

    def validation_loader(
        self, image_scale: float, processes: Processes | None = None, *, most: int | None = None
    ) -> DataLoader[LabeledImage]:
        """Whole images of the validation split with labels; this process's share of them.

        Args:
            image_scale: Factor of images and labels.
            processes: Those that share them; None for this one alone.
            most: At most this many images, evenly spread over the split; None for all.

        Raises:
            ValueError: The split is unknown or empty.
        """
        samples = self.description.samples(self.config.validation_split)
        count = min(len(samples), most or len(samples))
        chosen = tuple(samples[index * len(samples) // count] for index in range(count))
        return build_eval_loader(
            replace(self.description, splits={"validation": chosen}),
            split="validation",
            image_scale=image_scale,
            num_workers=self.config.num_workers,
            rank=processes.global_rank if processes else 0,
            world_size=processes.world_size if processes else 1,
        )
