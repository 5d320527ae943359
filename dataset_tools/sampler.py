"""The order of training images: endless reshuffling cut into epochs, and the search's two halves.

Everything here follows from the seed, the epoch and the position alone, so the order and the augmentation do not depend
on the number of workers, and a run that was cut off goes on with the same draws.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, TypeVar

import numpy as np
from torch.utils.data import Sampler

from dataset_tools.dataset import Draw

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
    """Draws images by reshuffling endlessly, and cuts the stream into epochs of equal length.

    Each pass over the images has its own shuffle; an epoch goes on in the stream where the one before ended, so no
    image is seen less often than the others by more than one.

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
