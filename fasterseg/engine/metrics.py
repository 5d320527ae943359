"""Segmentation scores from a confusion matrix: mean and per-class intersection over union, pixel accuracy."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.classification import MulticlassConfusionMatrix


@dataclass(frozen=True, eq=False)
class SegmentationScores:
    """Scores of predictions against labels.

    Attributes:
        miou: Mean IoU over the classes that occur in labels or predictions, 0..1.
        per_class_iou: IoU by train id; nan for a class that occurs in neither.
        pixel_accuracy: Fraction of the labelled pixels that are predicted correctly, 0..1.
        confusion: (C, C) int64 pixel counts; rows are labels, columns predictions.
        class_names: Name of each class, by train id.
    """

    miou: float
    per_class_iou: tuple[float, ...]
    pixel_accuracy: float
    confusion: NDArray[np.int64]
    class_names: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """The scores by their names in logs; the IoU of a class is `iou/<class>`."""
        classes = zip(self.class_names, self.per_class_iou, strict=True)
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            **{f"iou/{name}": iou for name, iou in classes},
        }

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON-ready plain data without the confusion matrix; an absent class is null."""
        classes = zip(self.class_names, self.per_class_iou, strict=True)
        return {
            "miou": self.miou,
            "pixel_accuracy": self.pixel_accuracy,
            "per_class_iou": {name: None if math.isnan(iou) else iou for name, iou in classes},
        }


def scores_from_confusion(confusion: NDArray[np.int64], class_names: tuple[str, ...]) -> SegmentationScores:
    """The scores of a (C, C) int64 confusion matrix; rows are labels, columns predictions.

    Raises:
        ValueError: No pixel is labelled, so that there is nothing to score.
    """
    labelled = int(confusion.sum())
    if labelled == 0:
        raise ValueError(
            "no pixel of the evaluated images is labelled: all have the ignore index or no mask; "
            "evaluate on a split with masks"
        )
    hits = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    iou = np.divide(hits, union, out=np.full(len(hits), np.nan), where=union > 0)
    return SegmentationScores(
        miou=float(np.nanmean(iou)),
        per_class_iou=tuple(float(value) for value in iou),
        pixel_accuracy=float(hits.sum() / labelled),
        confusion=confusion,
        class_names=class_names,
    )


class SegmentationMetrics:
    """Accumulates a confusion matrix over batches and processes.

    Args:
        class_names: Name of each class, by train id.
        ignore_index: Label of pixels that loss and metrics ignore.
        device: Device of the matrix and of the predictions.
    """

    def __init__(self, class_names: tuple[str, ...], *, ignore_index: int, device: torch.device | str = "cpu") -> None:
        self.class_names = class_names
        self._confusion = MulticlassConfusionMatrix(
            num_classes=len(class_names), ignore_index=ignore_index, validate_args=False
        ).to(device)

    def update(self, prediction: torch.Tensor, labels: torch.Tensor) -> None:
        """Counts one batch.

        Args:
            prediction: Logits (N, C, H, W) or train ids (N, H, W) at the size of the labels.
            labels: (N, H, W) int64 train ids and the ignore index.
        """
        if prediction.ndim == 4:
            prediction = prediction.argmax(dim=1)
        self._confusion.update(prediction, labels)

    def compute(self) -> SegmentationScores:
        """The scores of everything counted so far.

        Raises:
            ValueError: No pixel was labelled.
        """
        confusion: torch.Tensor = self._confusion.compute()
        return scores_from_confusion(confusion.cpu().numpy().astype(np.int64), self.class_names)
