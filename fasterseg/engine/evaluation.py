"""Evaluation of any predictor on batches of images: whole image or sliding window, flipped and scaled copies.

A predictor maps normalised images to logits at any stride: a network, an exported file behind a runtime, a supernet
with a chosen path. Validation during training and `train evaluate` both use this module.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fasterseg.base.console import ProgressReporter
from fasterseg.base.pictures import example_picture
from fasterseg.engine.checkpoint import DatasetFacts
from fasterseg.engine.metrics import SegmentationMetrics, SegmentationScores
from fasterseg.engine.run_folder import RunFolder
from fasterseg.networks.resizing import Size, map_size, resize_bilinear

Predictor = Callable[[torch.Tensor], torch.Tensor]


class LabeledBatch(Protocol):
    """A batch with `image` (N, 3, H, W) float32 and `label` (N, H, W) int64."""

    @property
    def image(self) -> torch.Tensor:
        """Normalised RGB images."""

    @property
    def label(self) -> torch.Tensor:
        """Train ids and the ignore index."""


@dataclass(frozen=True)
class InferenceMode:
    """How images are evaluated; the default is the published protocol: the whole image once, at its own size.

    Attributes:
        window_size_px: (height, width) of sliding windows; None for the whole image.
        window_overlap: Fraction of a window that overlaps the next one, in [0, 1).
        flip: Whether predictions are averaged with those of the mirrored image.
        scales: Scale factors of the copies whose predictions are averaged.

    Raises:
        ValueError: A field is out of its range.
    """

    window_size_px: Size | None = None
    window_overlap: float = 1 / 3
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if self.window_size_px is not None and min(self.window_size_px) < 1:
            raise ValueError(f"window_size_px is {self.window_size_px}, expected a height and width of at least 1")
        if not 0 <= self.window_overlap < 1:
            raise ValueError(f"window_overlap is {self.window_overlap}, expected a fraction of at least 0 and below 1")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"scales is {list(self.scales)}, expected at least one factor, each above 0")

    @property
    def votes(self) -> int:
        """Number of predictions that are averaged for an image."""
        return len(self.scales) * (2 if self.flip else 1)


WHOLE_IMAGE = InferenceMode()


def infer(predict: Predictor, image: torch.Tensor, mode: InferenceMode = WHOLE_IMAGE) -> torch.Tensor:
    """Class scores of images at their own size.

    Args:
        predict: Maps images to logits at any stride.
        image: (N, 3, H, W) normalised RGB.
        mode: Windows, mirroring and scales.

    Returns:
        (N, C, H, W): logits where the whole image is evaluated once, averaged probabilities otherwise; the largest is
        the prediction either way.
    """
    size = map_size(image)
    if mode == WHOLE_IMAGE:
        return resize_bilinear(predict(image), size)
    total: torch.Tensor | None = None
    for scale in mode.scales:
        scaled_size = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        scaled = resize_bilinear(image, scaled_size)
        for flipped in (False, True) if mode.flip else (False,):
            shown = scaled.flip(3) if flipped else scaled
            vote = _windows(predict, shown, mode)
            vote = resize_bilinear(vote.flip(3) if flipped else vote, size)
            total = vote if total is None else total + vote
    assert total is not None
    return total / mode.votes


def _windows(predict: Predictor, image: torch.Tensor, mode: InferenceMode) -> torch.Tensor:
    """Probabilities (N, C, H, W) of an image, averaged where windows overlap."""
    size = map_size(image)
    window = size if mode.window_size_px is None else mode.window_size_px
    window = (min(window[0], size[0]), min(window[1], size[1]))
    total: torch.Tensor | None = None
    counts = image.new_zeros((1, 1, *size))
    for top in _starts(size[0], window[0], mode.window_overlap):
        for left in _starts(size[1], window[1], mode.window_overlap):
            area = (slice(None), slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
            probabilities = resize_bilinear(predict(image[area]), window).softmax(dim=1)
            if total is None:
                total = probabilities.new_zeros((*probabilities.shape[:2], *size))
            total[area] += probabilities
            counts[area] += 1
    assert total is not None
    return total / counts


def _starts(length: int, window: int, overlap: float) -> list[int]:
    """Start positions of windows that cover a side; the last window ends at the border."""
    step = max(1, int(window * (1 - overlap)))
    starts = list(range(0, length - window, step))
    return [*starts, length - window]


@torch.inference_mode()
def evaluate(
    predict: Predictor,
    batches: Iterable[LabeledBatch],
    *,
    class_names: tuple[str, ...],
    ignore_index: int,
    device: torch.device | str = "cpu",
    mode: InferenceMode = WHOLE_IMAGE,
    progress: ProgressReporter | None = None,
    on_prediction: Callable[[LabeledBatch, torch.Tensor], None] | None = None,
) -> SegmentationScores:
    """Scores a predictor on labelled images.

    Args:
        predict: Maps (N, 3, H, W) to logits at any stride; a network must be in evaluation mode.
        batches: The images and labels.
        class_names: Name of each class, by train id.
        ignore_index: Label of pixels that loss and metrics ignore.
        device: Device that images and labels are moved to.
        mode: Windows, mirroring and scales.
        progress: Advanced by one per batch.
        on_prediction: Called with each batch and its predicted train ids (N, H, W), such as to draw examples.

    Raises:
        ValueError: No pixel is labelled, or the predictor gives another number of classes.
    """
    metrics = SegmentationMetrics(class_names, ignore_index=ignore_index, device=device)
    for batch in batches:
        scores = infer(predict, batch.image.to(device), mode)
        if scores.shape[1] != len(class_names):
            raise ValueError(
                f"the network predicts {scores.shape[1]} classes, the dataset has {len(class_names)} "
                f"({', '.join(class_names)}); use the dataset it was trained on"
            )
        prediction = scores.argmax(dim=1)
        metrics.update(prediction, batch.label.to(device))
        if on_prediction is not None:
            on_prediction(batch, prediction)
        if progress is not None:
            progress.advance()
    return metrics.compute()


def first_example(batch: LabeledBatch, prediction: torch.Tensor, facts: DatasetFacts) -> NDArray[np.uint8]:
    """A batch's first image, its label and its prediction side by side, as an RGB picture.

    Args:
        batch: Images and labels.
        prediction: Train ids (N, H, W).
        facts: Colours and normalisation.
    """
    return example_picture(
        batch.image[0].float().cpu().numpy(),
        batch.label[0].cpu().numpy(),
        prediction[0].cpu().numpy(),
        colors=facts.colors,
        mean=facts.mean,
        std=facts.std,
    )


class ExamplePictures:
    """Writes the first image of each of the first batches to TensorBoard; pass `show` to `evaluate`.

    Args:
        run_folder: Run folder of the TensorBoard files.
        facts: Colours and normalisation.
        count: Number of pictures.
        step: Step that the pictures are recorded under.
    """

    def __init__(self, run_folder: RunFolder, facts: DatasetFacts, *, count: int, step: int) -> None:
        self._run_folder, self._facts = run_folder, facts
        self._count, self._step = count, step
        self._shown = 0

    def show(self, batch: LabeledBatch, prediction: torch.Tensor) -> None:
        """Draws the first image of a batch and its predicted train ids (N, H, W), up to `count` times."""
        if self._shown >= self._count:
            return
        picture = first_example(batch, prediction, self._facts)
        self._run_folder.picture(f"examples/{self._shown}", picture, self._step)
        self._shown += 1
