"""Samples on disk as (image, label) tensors: what the loaders iterate over.

`description` says which pairs there are, `samples` reads one, `transforms` says what is done to it, `loader` in which
order.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from dataset_tools.samples import Sample, read_pair
from dataset_tools.transforms import Pair, Transform
from fasterseg.base.normalization import normalize


class LabeledImage(NamedTuple):
    """One item, or one batch of them.

    Shapes: image (3, H, W) float32, RGB, normalised; label (H, W) int64 train ids and the ignore index. In a batch both
    gain a leading N, and name is a list of N names.
    """

    image: torch.Tensor
    label: torch.Tensor
    name: str | list[str]


class Draw(NamedTuple):
    """Key of an augmented item: which sample, and the seed of its random numbers."""

    position: int
    seed: tuple[int, ...]


class PairReader(Protocol):
    """Gives checked pairs from elsewhere than their files; see `pack.PackedReader`."""

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(H, W, 3) RGB bytes and (H, W) train ids of the sample of a number."""


class SegmentationDataset(Dataset[LabeledImage]):
    """Reads, checks and transforms samples.

    Args:
        samples: What to read.
        transform: Augments a decoded pair; its mean and deviation normalise the image.
        num_classes: Number of classes of the masks.
        ignore_index: The mask value that is no class.
        packed: Reads the samples by their numbers; None for reading their files.

    Raises:
        ValueError: There are no samples.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: Transform,
        *,
        num_classes: int,
        ignore_index: int,
        packed: PairReader | None = None,
    ) -> None:
        if not samples:
            raise ValueError("a dataset needs at least one sample, found none; give a split whose list is not empty")
        self.samples = tuple(samples)
        self.transform = transform
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.packed = packed

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> LabeledImage:
        """Reads one sample.

        Args:
            key: A position, or a `Draw` that also seeds the augmentation. The same key always gives the same item.

        Returns:
            The item; its name is the image's file name without its ending.
        """
        batch = self.__getitems__([key])
        return LabeledImage(batch.image[0], batch.label[0], batch.name[0])

    def __getitems__(self, keys: Sequence[int | Draw]) -> LabeledImage:
        """Reads a batch; PyTorch's loaders call this where it is there.

        The batch is allocated once and every item is normalised into its place: besides decoding, touching new memory
        is most of the work. In a worker the batch lies in memory that is shared with the training process.

        Args:
            keys: Those of its items.

        Returns:
            The batch: image (N, 3, H, W), label (N, H, W), name a list of N.

        Raises:
            ValueError: The images differ in size.
        """
        draws = [key if isinstance(key, Draw) else Draw(key, (key,)) for key in keys]
        names = [self.samples[draw.position].image.stem for draw in draws]
        pairs = [self._augmented(draw) for draw in draws]
        size = pairs[0][1].shape
        for name, (_, label) in zip(names, pairs, strict=True):
            if label.shape != size:
                sizes = f"{names[0]} {size[0]}x{size[1]}, {name} {label.shape[0]}x{label.shape[1]}"
                raise ValueError(f"images of one batch differ in size ({sizes}); evaluate with batch_size 1")
        images = _allocate((len(pairs), 3, *size), torch.float32)
        labels = _allocate((len(pairs), *size), torch.int64)
        for (image, label), image_place, label_place in zip(pairs, images, labels, strict=True):
            normalize(image, mean=self.transform.mean, std=self.transform.std, out=image_place.numpy())
            label_place.numpy()[...] = label
        return LabeledImage(images, labels, names)

    def _augmented(self, draw: Draw) -> Pair:
        """The augmented pair of a draw."""
        sample = self.samples[draw.position]
        image, label = (
            read_pair(sample, num_classes=self.num_classes, ignore_index=self.ignore_index)
            if self.packed is None
            else self.packed.read(draw.position)
        )
        return self.transform.augment(image, label, np.random.default_rng(draw.seed))


def _allocate(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Memory for a batch; in a worker shared with the training process, as PyTorch's own collation does it."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    size_bytes = math.prod(shape) * dtype.itemsize
    storage: torch.UntypedStorage = torch.UntypedStorage._new_shared(size_bytes)  # type: ignore[no-untyped-call]
    return torch.empty(0, dtype=dtype).set_(storage).view(shape)
