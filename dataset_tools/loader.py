"""Loaders for training and evaluation, built from a dataset description.

The training stages of `search` and `train` take their batches from here. Batches are `LabeledImage` tuples. Reading and
augmentation happen in worker processes, one thread each; what they give depends on the seed, the epoch and the position
alone. Packs (see `pack`) are read instead of the image files where they are up to date.
"""

from collections.abc import Sequence

import cv2
import torch
from torch.utils.data import DataLoader

from dataset_tools.dataset import LabeledImage, Sample, SegmentationDataset, Transform
from dataset_tools.description import DatasetDescription
from dataset_tools.packed import find_packed
from dataset_tools.sampler import EndlessSampler, Subset, select_subset
from dataset_tools.transforms import DEFAULT_SCALES, EvalTransform, TrainTransform
from fasterseg.base.stopping import leave_stopping_to_parent


def _whole(batch: list[LabeledImage] | LabeledImage) -> list[LabeledImage] | LabeledImage:
    """The dataset gives whole batches: nothing is left to collate."""
    return batch


def _prepare_worker(_worker: int) -> None:
    """Keeps OpenCV to one thread in a worker: the workers themselves are the parallelism; and signals to the parent."""
    cv2.setNumThreads(0)
    leave_stopping_to_parent()


def _check_counts(**counts: int) -> None:
    """Refuses counts below their minimum: 0 for num_workers, 1 for everything else."""
    for field, value in counts.items():
        least = 0 if field == "num_workers" else 1
        if value < least:
            raise ValueError(f"{field} is {value}, expected {least} or more")


class TrainLoader(DataLoader[LabeledImage]):
    """Batches of one epoch at a time; `set_epoch` before each epoch chooses which.

    Iterating twice without `set_epoch` gives the same batches twice. Two loaders with equal arguments give equal
    batches, whatever their num_workers.

    Args:
        dataset: What to draw from.
        sampler: Which samples, in which order, with which random numbers.
        batch_size: Images per batch of this process.
        num_workers: Worker processes; 0 reads in the training process.
    """

    def __init__(
        self, dataset: SegmentationDataset, sampler: EndlessSampler, *, batch_size: int, num_workers: int
    ) -> None:
        self._epoch_sampler = sampler
        super().__init__(
            dataset,
            batch_size=batch_size,
            # The dataset takes Draw keys as well as positions; DataLoader's annotation knows only positions.
            sampler=sampler,
            num_workers=num_workers,
            collate_fn=_whole,
            worker_init_fn=_prepare_worker,
            persistent_workers=num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            # Without a generator of its own, starting an epoch would draw from PyTorch's global one.
            generator=torch.Generator().manual_seed(sampler.seed),
        )

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the epoch that the next iteration gives, and its first batch; both are counted from 0."""
        assert self.batch_size is not None
        self._epoch_sampler.start_epoch(epoch, first_draw=start * self.batch_size)


def _draws_per_epoch(num_images: int, images_per_step: int, iterations_per_epoch: int | None) -> int:
    """Length of an epoch in images; one pass, rounded up to whole steps, when no number of iterations is given."""
    if iterations_per_epoch is None:
        iterations_per_epoch = -(-num_images // images_per_step)
    _check_counts(iterations_per_epoch=iterations_per_epoch)
    return iterations_per_epoch * images_per_step


def _open_dataset(
    description: DatasetDescription, samples: Sequence[Sample], transform: Transform
) -> SegmentationDataset:
    """The samples from packs where there are some that are up to date, else from their files."""
    return SegmentationDataset(
        samples,
        transform,
        num_classes=description.num_classes,
        ignore_index=description.ignore_index,
        packed=find_packed(description, samples),
    )


def build_train_loader(
    description: DatasetDescription,
    *,
    split: str,
    crop_size_px: tuple[int, int],
    batch_size: int,
    iterations_per_epoch: int | None = None,
    scales: Sequence[float] = DEFAULT_SCALES,
    flip_probability: float = 0.5,
    image_scale: float = 1.0,
    seed: int = 0,
    num_workers: int = 0,
    subset: Subset = "all",
    rank: int = 0,
    world_size: int = 1,
) -> TrainLoader:
    """Builds the loader of augmented training batches.

    Args:
        description: The dataset.
        split: Name of the split, or several joined by "+".
        crop_size_px: (height, width) of the crops, both divisible by 32.
        batch_size: Images per batch of each process.
        iterations_per_epoch: Batches per epoch; None for one pass over the images, rounded up to whole batches.
        scales: Random scale factors.
        flip_probability: Probability of a horizontal flip.
        image_scale: Fixed scale of the images before the random one.
        seed: Decides order, augmentation and halves.
        num_workers: Worker processes; does not change the batches.
        subset: All images or one of the search's two halves.
        rank: Number of this process in distributed training.
        world_size: Number of processes.

    Returns:
        The loader; call its `set_epoch` before each epoch.

    Raises:
        ValueError: An argument is out of its range, or the split is unknown or empty.
    """
    _check_counts(batch_size=batch_size, num_workers=num_workers, world_size=world_size)
    samples = select_subset(description.samples(split), subset, seed=seed)
    draws = _draws_per_epoch(len(samples), batch_size * world_size, iterations_per_epoch)
    transform = TrainTransform(
        crop_size_px=crop_size_px,
        scales=tuple(scales),
        flip_probability=flip_probability,
        image_scale=image_scale,
        mean=description.mean,
        std=description.std,
        ignore_index=description.ignore_index,
    )
    dataset = _open_dataset(description, samples, transform)
    sampler = EndlessSampler(len(samples), draws_per_epoch=draws, seed=seed, rank=rank, world_size=world_size)
    return TrainLoader(dataset, sampler, batch_size=batch_size, num_workers=num_workers)


def build_eval_loader(
    description: DatasetDescription,
    *,
    split: str,
    image_scale: float = 1.0,
    num_workers: int = 0,
    batch_size: int = 1,
    rank: int = 0,
    world_size: int = 1,
) -> DataLoader[LabeledImage]:
    """Builds the loader of whole images in list order.

    Args:
        description: The dataset.
        split: Name of the split, or several joined by "+".
        image_scale: Fixed scale of images and labels.
        num_workers: Worker processes.
        batch_size: Images per batch; more than 1 only where all images have one size. The last batch may be smaller.
        rank: Number of this process where several share the images.
        world_size: Number of processes; each image goes to one of them, and the last ones may get one less.

    Returns:
        The loader. Labels of samples without a mask are the ignore index throughout.

    Raises:
        ValueError: An argument is out of its range, or the split is unknown or empty.
    """
    _check_counts(batch_size=batch_size, num_workers=num_workers, world_size=world_size)
    transform = EvalTransform(image_scale=image_scale, mean=description.mean, std=description.std)
    dataset = _open_dataset(description, description.samples(split), transform)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=range(rank, len(dataset), world_size),
        num_workers=num_workers,
        collate_fn=_whole,
        worker_init_fn=_prepare_worker,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
    )
