"""Samples on disk as (image, label) tensors: what the loaders iterate over.

Reads and checks one pair of files at a time; which pairs there are comes from `description`, what is done to them from
`transforms`, in which order from `sampler`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from dataset_tools.masks import check_mask_values, read_mask


class Sample(NamedTuple):
    """One line of a split list: an image, its mask where there is one, and where the line stands (for messages)."""

    image: Path
    mask: Path | None
    origin: str = ""


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


class Transform(Protocol):
    """Turns a decoded pair into tensors; every random choice comes from the generator."""

    def __call__(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], generator: np.random.Generator, /
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps (H, W, 3) RGB bytes and (H, W) ids to a (3, h, w) float32 and an (h, w) int64 tensor."""


def described(path: Path, origin: str) -> str:
    """A file for a message, with the list line it comes from."""
    return f"{path} ({origin})" if origin else str(path)


def read_image(path: Path, origin: str = "") -> NDArray[np.uint8]:
    """Reads an image as RGB bytes, as stored: an orientation tag is not applied, as masks have none.

    Args:
        path: Any format OpenCV reads.
        origin: The list line it stands in, for messages.

    Returns:
        RGB, shape (H, W, 3), uint8.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, cut off or not an image.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image not found: {described(path, origin)}; correct the list or restore the file")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION) if data.size else None
    if image is None:
        raise ValueError(f"image cannot be read: {described(path, origin)}; it is damaged, cut off or not an image")
    return np.asarray(image, np.uint8)


def read_label(
    sample: Sample, image_size: tuple[int, int], *, num_classes: int, ignore_index: int
) -> NDArray[np.integer]:
    """Reads the mask of a sample and checks it against its image and the classes.

    Args:
        sample: The pair; without a mask every pixel is ignored.
        image_size: (height, width) of the image.
        num_classes: Ids 0..num_classes-1 are allowed.
        ignore_index: The further value that is allowed.

    Returns:
        Train ids, shape (H, W).

    Raises:
        FileNotFoundError: The mask does not exist.
        ValueError: It is unreadable, of another size than the image, or holds a value outside the classes.
    """
    if sample.mask is None:
        return np.full(image_size, ignore_index, np.uint8)
    name = described(sample.mask, sample.origin)
    if not sample.mask.is_file():
        raise FileNotFoundError(f"mask not found: {name}; correct the list or restore the file")
    label = read_mask(sample.mask)
    if label.shape != image_size:
        raise ValueError(
            f"image and mask differ in size (height x width): {sample.image} is {image_size[0]}x{image_size[1]}, "
            f"{name} is {label.shape[0]}x{label.shape[1]}; they must be equal"
        )
    check_mask_values(label, num_classes=num_classes, ignore_index=ignore_index, source=f"mask {name}")
    return label


class PairReader(Protocol):
    """Gives checked pairs from elsewhere than their files; see `packed.PackedReader`."""

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """(H, W, 3) RGB bytes and (H, W) train ids of the sample of a number."""


class SegmentationDataset(Dataset[LabeledImage]):
    """Reads, checks and transforms samples.

    Args:
        samples: What to read.
        transform: Turns a decoded pair into tensors.
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
        draw = key if isinstance(key, Draw) else Draw(key, (key,))
        image, label = self._read(draw.position)
        tensors = self.transform(image, label, np.random.default_rng(draw.seed))
        return LabeledImage(*tensors, name=self.samples[draw.position].image.stem)

    def _read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """The pair of a sample, checked."""
        if self.packed is not None:
            return self.packed.read(position)
        sample = self.samples[position]
        image = read_image(sample.image, sample.origin)
        size = (image.shape[0], image.shape[1])
        return image, read_label(sample, size, num_classes=self.num_classes, ignore_index=self.ignore_index)
