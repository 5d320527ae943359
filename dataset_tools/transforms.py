"""Augmentation and normalisation of decoded (image, label) pairs.

`TrainTransform` flips, scales and crops; `EvalTransform` leaves the whole image. Both are frozen, hold no random state
and take every random choice from the generator that they are given. Of an image that is scaled and cropped only the
part that the crop shows is scaled, see `windows`.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dataset_tools.crops import check_crop_size
from dataset_tools.windows import Window, pad, resize_image_window, resize_label_window, scaled_size
from fasterseg.base.normalization import normalize

# Statistics of ImageNet in RGB for values in 0..1, which pretrained backbones expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SCALES = (0.75, 1.0, 1.25)
_CROP_ATTEMPTS = 10

Color = tuple[float, float, float]


def resize_label(label: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """Resizes ids to the nearest pixel centre.

    Args:
        label: Ids, shape (H, W).
        size: (height, width) of the result.

    Returns:
        Ids, shape `size`, of the same type.
    """
    return resize_label_window(label, size, Window(0, 0, *size))


def resize_pair(
    image: NDArray[np.uint8], label: NDArray[np.integer], factor: float
) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    """Scales an image (bilinear) and its label (nearest) by one factor; 1 returns them as they are."""
    if factor == 1:
        return image, label
    size = scaled_size((label.shape[0], label.shape[1]), factor)
    return resize_image_window(image, size, Window(0, 0, *size)), resize_label(label, size)


def _as_tensors(
    image: NDArray[np.uint8], label: NDArray[np.integer], mean: Color, std: Color
) -> tuple[torch.Tensor, torch.Tensor]:
    """An augmented pair as the networks take it."""
    return torch.from_numpy(normalize(image, mean=mean, std=std)), torch.from_numpy(label.astype(np.int64))


def _check_positive(field: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{field} is {value}, expected more than 0")


@dataclass(frozen=True)
class EvalTransform:
    """The whole image, scaled by a fixed factor and normalised.

    Attributes:
        image_scale: Factor of both sides, e.g. 0.5 for half-size images; the label is scaled along.
        mean: Mean per RGB channel, for values in 0..1.
        std: Standard deviation per RGB channel.
    """

    image_scale: float = 1.0
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD

    def __post_init__(self) -> None:
        """Checks the fields."""
        _check_positive("image_scale", self.image_scale)

    def augment(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], _generator: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Scales; see `dataset.Transform`. The generator is not used."""
        return resize_pair(image, label, self.image_scale)

    def __call__(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], generator: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Scales and normalises to (3, h, w) float32 and (h, w) int64."""
        return _as_tensors(*self.augment(image, label, generator), self.mean, self.std)


@dataclass(frozen=True)
class TrainTransform:
    """Random flip, scale and crop, then normalisation.

    Attributes:
        crop_size_px: (height, width) of the result; both divisible by 32. A scaled image that is smaller is placed at
            random and padded, the image with the mean colour and the label with the ignore index.
        scales: Random factors, one drawn per image, on top of image_scale.
        flip_probability: Probability of a horizontal flip.
        image_scale: Fixed factor, e.g. 0.5 for half-size images.
        mean: Mean per RGB channel, for values in 0..1.
        std: Standard deviation per RGB channel.
        ignore_index: Label of padding.
        min_valid_fraction: A crop with a smaller part of labelled pixels is drawn again, ten times at most.

    Raises:
        ValueError: A field is out of its range.
    """

    crop_size_px: tuple[int, int]
    scales: tuple[float, ...] = DEFAULT_SCALES
    flip_probability: float = 0.5
    image_scale: float = 1.0
    mean: Color = IMAGENET_MEAN
    std: Color = IMAGENET_STD
    ignore_index: int = 255
    min_valid_fraction: float = 0.05

    def __post_init__(self) -> None:
        """Checks the fields."""
        check_crop_size(self.crop_size_px)
        _check_positive("image_scale", self.image_scale)
        if not self.scales:
            raise ValueError("scales is empty, expected at least one factor; use [1.0] for no random scaling")
        for scale in self.scales:
            _check_positive("scales", scale)
        for field, value in (
            ("flip_probability", self.flip_probability),
            ("min_valid_fraction", self.min_valid_fraction),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{field} is {value}, expected 0..1")

    def augment(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], generator: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Scales, crops and flips; see `dataset.Transform`."""
        flip = generator.random() < self.flip_probability
        scale = self.scales[int(generator.integers(len(self.scales)))]
        image, label = self._scaled_crop(image, label, self.image_scale * scale, generator)
        if flip:
            image, label = image[:, ::-1], label[:, ::-1]
        return image, label

    def __call__(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], generator: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augments and normalises to (3, h, w) float32 and (h, w) int64."""
        return _as_tensors(*self.augment(image, label, generator), self.mean, self.std)

    def _scaled_crop(
        self, image: NDArray[np.uint8], label: NDArray[np.integer], factor: float, generator: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
        """Cuts a random window of crop_size_px out of the scaled pair; it may reach over its borders."""
        size = scaled_size((label.shape[0], label.shape[1]), factor)
        for _ in range(_CROP_ATTEMPTS):
            corner = [
                int(generator.integers(min(0, side - crop), max(0, side - crop) + 1))
                for side, crop in zip(size, self.crop_size_px, strict=True)
            ]
            window = Window(corner[0], corner[1], *self.crop_size_px)
            inside = window.inside(size)
            label_part = resize_label_window(label, size, inside)
            valid = np.count_nonzero(label_part != self.ignore_index)
            if valid >= self.min_valid_fraction * window.height * window.width:
                break
        padding = np.rint(np.asarray(self.mean) * 255).astype(np.uint8)
        image_part = resize_image_window(image, size, inside)
        return pad(image_part, inside, window, padding), pad(label_part, inside, window, self.ignore_index)
