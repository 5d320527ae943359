"""What the search reads: batches from both halves of the training images, and validation images for the supernet."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from lightning_fabric import Fabric
from torch.utils.data import DataLoader

from dataset_tools.dataset import LabeledImage
from dataset_tools.description import DatasetDescription
from dataset_tools.experiment_data import ExperimentData
from dataset_tools.loader import TrainLoader
from search.config import SearchConfig


class SearchBatch(NamedTuple):
    """One step's images: one batch for the architecture, another for the weights; they share no image."""

    architecture: LabeledImage
    weights: LabeledImage


class HalvesLoader:
    """Pairs of batches, one from each half of the training images; see `fasterseg.engine.loop.EpochLoader`.

    Args:
        weights: Batches of the half that trains the weights.
        architecture: As many batches of the other half.
    """

    def __init__(self, weights: TrainLoader, architecture: TrainLoader) -> None:
        assert len(weights) == len(architecture)
        self._weights, self._architecture = weights, architecture

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the epoch that the next iteration gives, and its first batch; both are counted from 0."""
        self._weights.set_epoch(epoch, start)
        self._architecture.set_epoch(epoch, start)

    def __iter__(self) -> Iterator[SearchBatch]:
        for architecture, weights in zip(self._architecture, self._weights, strict=True):
            yield SearchBatch(architecture, weights)

    def __len__(self) -> int:
        return len(self._weights)


@dataclass(frozen=True)
class SearchData:
    """The batches of a search.

    Attributes:
        description: The dataset.
        training: Both halves of the training images.
        validation: Whole images with labels; this process's share of them.
    """

    description: DatasetDescription
    training: HalvesLoader
    validation: DataLoader[LabeledImage]


def build_search_data(data: ExperimentData, *, config: SearchConfig, fabric: Fabric, seed: int) -> SearchData:
    """Builds the loaders of a search.

    Args:
        data: The dataset.
        config: Crops, batches and scales.
        fabric: The processes that share the batches.
        seed: Decides the halves, the order and the augmentation.

    Raises:
        ValueError: A split is unknown or empty.
    """
    weights = data.train_loader(config, fabric, seed=seed, subset="first_half")
    # an odd number of images gives the second half one more: as many batches as the first has
    architecture = data.train_loader(config, fabric, seed=seed, subset="second_half", iterations_per_epoch=len(weights))
    validation = data.validation_loader(config.image_scale, fabric, most=config.validation_images)
    return SearchData(data.description, HalvesLoader(weights, architecture), validation)
