"""Scores on a confusion matrix worked out by hand."""

import json
import math

import pytest
import torch

from fasterseg.engine.metrics import SegmentationMetrics

NAMES = ("road", "car", "sky")


def test_scores_by_hand() -> None:
    metrics = SegmentationMetrics(NAMES, ignore_index=255)
    labels = torch.tensor([[[0, 0, 0, 1], [1, 1, 255, 255]]])
    prediction = torch.tensor([[[0, 0, 1, 1], [1, 0, 2, 0]]])
    metrics.update(prediction, labels)
    scores = metrics.compute()
    assert scores.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert scores.per_class_iou[:2] == (0.5, 0.5)
    assert math.isnan(scores.per_class_iou[2])
    assert scores.miou == 0.5
    assert scores.pixel_accuracy == pytest.approx(4 / 6)


def test_logits_and_train_ids_count_alike() -> None:
    labels = torch.randint(0, 3, (2, 5, 7))
    logits = torch.randn(2, 3, 5, 7)
    by_logits, by_ids = (SegmentationMetrics(NAMES, ignore_index=255) for _ in range(2))
    by_logits.update(logits, labels)
    for image in range(2):
        by_ids.update(logits[image : image + 1].argmax(1), labels[image : image + 1])
    assert by_logits.compute().confusion.tolist() == by_ids.compute().confusion.tolist()


def test_nothing_labelled_is_an_error() -> None:
    metrics = SegmentationMetrics(NAMES, ignore_index=255)
    metrics.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.full((1, 2, 2), 255))
    with pytest.raises(ValueError, match="no pixel of the evaluated images is labelled"):
        metrics.compute()


def test_plain_data_has_null_for_an_absent_class() -> None:
    metrics = SegmentationMetrics(NAMES, ignore_index=255)
    metrics.update(torch.zeros(1, 2, 2, dtype=torch.int64), torch.zeros(1, 2, 2, dtype=torch.int64))
    plain = json.loads(json.dumps(metrics.compute().to_dict(), allow_nan=False))
    assert plain["per_class_iou"] == {"road": 1.0, "car": None, "sky": None}
