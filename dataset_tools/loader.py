"""Loaders for training and evaluation, and the order of the images that they give.

The training stages of `search` and `train` take their batches from here, as `LabeledImage` tuples. Reading and
augmentation happen in worker processes, one thread each. What they give follows from the seed, the epoch and the
position alone: it does not depend on the number of workers, and a run that was cut off goes on with the same draws.
Packs (see `pack`) are read instead of the image files where they are up to date.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from dataset_tools.dataset import Draw, LabeledImage, SegmentationDataset
from dataset_tools.description import DatasetDescription
from dataset_tools.pack import find_packed
from dataset_tools.samples import Sample
from dataset_tools.transforms import DEFAULT_SCALES, EvalTransform, TrainTransform, Transform
from fasterseg.base.stopping import leave_stopping_to_parent

Subset = Literal["all", "first_half", "second_half"]
ItemT = TypeVar("ItemT")

# Keep the random streams of shuffling, augmentation and halving apart although they share one seed.
_SHUFFLE, _AUGMENT, _HALVES = 1, 2, 3


def select_subset(items: Sequence[ItemT], subset: Subset, *, seed: int) -> tuple[ItemT, ...]:
    """Chooses all items or one of two random halves.

    Args:
        items: What to divide, in a fixed order.
        subset: "first_half" and "second_half" are disjoint and together hold everything; with an odd number the second
            has one more.
        seed: Decides which item is in which half.

    Returns:
        The chosen items in their original order.

    Raises:
        ValueError: The subset is unknown, or there are fewer than two items to halve.
    """
    if subset == "all":
        return tuple(items)
    if subset not in ("first_half", "second_half"):
        raise ValueError(f"subset is {subset!r}, expected all, first_half or second_half")
    if len(items) < 2:
        raise ValueError(f"{len(items)} images cannot be divided into two halves; the search needs 2 or more")
    order = np.random.default_rng((seed, _HALVES)).permutation(len(items))
    middle = len(items) // 2
    chosen = order[:middle] if subset == "first_half" else order[middle:]
    return tuple(items[index] for index in sorted(chosen.tolist()))


class EndlessSampler(Sampler[Draw]):
    """An endless stream of shuffled passes over the images, cut into epochs of equal length.

    Each pass has its own shuffle. An epoch goes on where the one before ended, so the counts of two images differ by
    one at most.

    Args:
        num_images: Number of images.
        draws_per_epoch: Length of an epoch, over all processes.
        seed: Decides the order and the augmentation.
        rank: Number of this process in distributed training; the processes divide every epoch between them.
        world_size: Number of processes; draws_per_epoch is a multiple of it.
    """

    # The epoch's setter is not called set_epoch: Lightning Fabric calls a method of that name with its own count, which
    # starts from 0 again when a run is resumed.

    def __init__(self, num_images: int, *, draws_per_epoch: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        if draws_per_epoch % world_size:
            raise ValueError(f"draws_per_epoch {draws_per_epoch} is not divisible by world_size {world_size}")
        self.num_images = num_images
        self.draws_per_epoch = draws_per_epoch
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.first_draw = 0

    def start_epoch(self, epoch: int, *, first_draw: int = 0) -> None:
        """Chooses the part of the stream that the next iteration gives: an epoch less this process's first draws."""
        self.epoch, self.first_draw = epoch, first_draw

    def __len__(self) -> int:
        """Draws of one whole epoch in this process."""
        return self.draws_per_epoch // self.world_size

    def __iter__(self) -> Iterator[Draw]:
        """The draws of the chosen epoch."""
        start = self.epoch * self.draws_per_epoch
        shuffled_pass, order = -1, np.empty(0, np.int64)
        first = start + self.rank + self.first_draw * self.world_size
        for number in range(first, start + self.draws_per_epoch, self.world_size):
            current_pass, place = divmod(number, self.num_images)
            if current_pass != shuffled_pass:
                order = np.random.default_rng((self.seed, _SHUFFLE, current_pass)).permutation(self.num_images)
                shuffled_pass = current_pass
            yield Draw(int(order[place]), (self.seed, _AUGMENT, number))


def _whole(batch: list[LabeledImage] | LabeledImage) -> list[LabeledImage] | LabeledImage:
    """Collates nothing: the dataset gives whole batches."""
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
    """Reads the samples from packs where those are up to date, else from their files."""
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
    image_scale: float = 1.0,
    seed: int = 0,
    num_workers: int = 0,
    subset: Subset = "all",
    rank: int = 0,
    world_size: int = 1,
) -> TrainLoader:
    """Builds the loader of augmented training batches; call its `set_epoch` before each epoch.

    Args:
        description: The dataset.
        split: Name of the split, or several joined by "+".
        crop_size_px: (height, width) of the crops, both divisible by 32.
        batch_size: Images per batch of each process.
        iterations_per_epoch: Batches per epoch; None for one pass over the images, rounded up to whole batches.
        scales: Random scale factors.
        image_scale: Fixed scale of the images before the random one.
        seed: Decides order, augmentation and halves.
        num_workers: Worker processes; does not change the batches.
        subset: All images or one of the search's two halves.
        rank: Number of this process in distributed training.
        world_size: Number of processes.

    Raises:
        ValueError: An argument is out of its range, or the split is unknown or empty.
    """
    _check_counts(batch_size=batch_size, num_workers=num_workers, world_size=world_size)
    samples = select_subset(description.samples(split), subset, seed=seed)
    draws = _draws_per_epoch(len(samples), batch_size * world_size, iterations_per_epoch)
    transform = TrainTransform(
        crop_size_px=crop_size_px,
        scales=tuple(scales),
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
        batch_size: Images per batch; more than 1 needs images of one size. The last batch may be smaller.
        rank: Number of this process where several share the images.
        world_size: Number of processes; each image goes to one of them, and the last ones may get one less.

    Returns:
        The loader. The label of a sample without a mask is the ignore index everywhere.

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
