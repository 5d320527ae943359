"""What a contact sheet shows: which images, and the pictures of each."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from dataset_tools.crops import Crop
from dataset_tools.dataset import Sample, read_label
from dataset_tools.description import DatasetDescription
from dataset_tools.pictures import overlay, shrink
from dataset_tools.transforms import DEFAULT_SCALES, TrainTransform
from fasterseg.base.images import read_image


@dataclass(frozen=True)
class Tile:
    """One image of a contact sheet.

    Attributes:
        caption: Its split, list line and file name.
        pictures: What to show side by side, each with a word on what it is; RGB, (H, W, 3).
    """

    caption: str
    pictures: tuple[tuple[str, NDArray[np.uint8]], ...]


@dataclass(frozen=True)
class Selection:
    """Which images a contact sheet shows.

    Attributes:
        split: Name of the split, or several joined by "+".
        count: How many images at most.
        class_name: Only images that contain this class; None for any.
        seed: Decides which images, and their augmentation.
    """

    split: str
    count: int
    class_name: str | None = None
    seed: int = 0


def select_samples(description: DatasetDescription, selection: Selection) -> list[Sample]:
    """Draws images at random, in list order.

    Args:
        description: The dataset.
        selection: What to draw. With a class name, masks are read until enough of them contain it.

    Returns:
        The samples.

    Raises:
        ValueError: The split or the class is unknown, no mask contains the class, or a mask is damaged.
        FileNotFoundError: A mask is missing.
    """
    samples = description.samples(selection.split)
    order = [int(position) for position in np.random.default_rng(selection.seed).permutation(len(samples))]
    if selection.class_name is None:
        return [samples[position] for position in sorted(order[: selection.count])]
    if selection.class_name not in description.class_names:
        raise ValueError(
            f"no class {selection.class_name!r} in {description.root}; it has {', '.join(description.class_names)}"
        )
    train_id = description.class_names.index(selection.class_name)
    found: list[int] = []
    for position in track(order, description="masks", transient=True):
        if len(found) == selection.count:
            break
        if bool((_read_pair(description, samples[position])[1] == train_id).any()):
            found.append(position)
    if not found:
        raise ValueError(f"no mask of the split {selection.split!r} contains the class {selection.class_name!r}")
    return [samples[position] for position in sorted(found)]


def make_tiles(
    description: DatasetDescription, samples: list[Sample], *, crop: Crop | None, seed: int, width_px: int
) -> Iterator[Tile]:
    """Reads images and makes their pictures.

    Args:
        description: The dataset.
        samples: What to show.
        crop: Show each image before and after the augmentation with this crop; None shows image and overlay.
        seed: Decides the augmentation, together with the number of the image on the sheet.
        width_px: Width of a picture.

    Yields:
        One tile per sample.

    Raises:
        ValueError: A pair is damaged or does not fit together, or the crop is not divisible by 32.
        FileNotFoundError: A file is missing.
    """
    colors, ignore_index = description.colors, description.ignore_index
    for number, sample in enumerate(samples):
        image, label = _read_pair(description, sample)
        small = shrink(image, width_px)
        covered = overlay(small, label, colors, ignore_index=ignore_index)
        if crop is None:
            pictures = (("image", small), ("overlay", covered))
        else:
            cut, cut_label = _augment(description, crop, (image, label), np.random.default_rng((seed, number)))
            after = overlay(shrink(cut, width_px), cut_label, colors, ignore_index=ignore_index)
            pictures = (("before", covered), (f"after, {crop.size_px[0]}x{crop.size_px[1]}", after))
        yield Tile(f"{sample.image.name}  {sample.origin}".strip(), pictures)


def _read_pair(description: DatasetDescription, sample: Sample) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Reads a pair as training does."""
    image = read_image(sample.image, sample.origin)
    size = (image.shape[0], image.shape[1])
    label = read_label(sample, size, num_classes=description.num_classes, ignore_index=description.ignore_index)
    return image, label


def _augment(
    description: DatasetDescription,
    crop: Crop,
    pair: tuple[NDArray[np.uint8], NDArray[np.integer]],
    generator: np.random.Generator,
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """What training makes of a pair, turned back into a picture."""
    transform = TrainTransform(
        crop_size_px=crop.size_px,
        scales=crop.scales or DEFAULT_SCALES,
        image_scale=crop.image_scale,
        mean=description.mean,
        std=description.std,
        ignore_index=description.ignore_index,
    )
    tensor, label = transform(*pair, generator)
    values = (tensor.numpy().transpose(1, 2, 0) * np.asarray(description.std) + np.asarray(description.mean)) * 255
    return values.round().clip(0, 255).astype(np.uint8), label.numpy()
